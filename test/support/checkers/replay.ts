/**
 * Checks a history against the log of revisions the store shows afterwards. Revisions order all
 * writes, so one pass suffices: replay the log on a model, attribute every revision to the operation
 * that made it, and hold every answer against the model at the revision the answer names.
 *
 * Found this way: lost, altered, reordered and duplicated writes, writes that nobody made, split
 * transactions, stale and torn reads, revisions that are missing, and real-time order broken between
 * clients. Part of an operation's check is that operations without an answer happen at most once.
 */
import type { Action, Change, Operation, RevisionOfLog } from './history.ts';

export type ModelEntry = {
  readonly value: string;
  readonly createRevision: bigint;
  readonly modRevision: bigint;
  readonly version: bigint;
  readonly lease: bigint;
};

type Acknowledged = Operation & { readonly answer: { readonly kind: 'acknowledged' } };

export class RevisionReplay {
  /** The newest revision replayed. */
  revision: bigint;
  readonly entries: Map<string, ModelEntry>;

  constructor(revision: bigint, entries: ReadonlyMap<string, ModelEntry> = new Map()) {
    this.revision = revision;
    this.entries = new Map(entries);
  }

  /**
   * Replays `log`, which continues where the last call ended and ends at the store's current
   * revision, and checks `operations`, which all ran since then. Returns what is wrong, in words.
   */
  advance(log: readonly RevisionOfLog[], operations: readonly Operation[]): string[] {
    const violations: string[] = [];
    const acknowledged = new Map<bigint, Acknowledged[]>();
    const open: Operation[] = [];
    for (const operation of operations) {
      if (operation.answer.kind === 'unknown') open.push(operation);
      if (operation.answer.kind !== 'acknowledged') continue;
      const { revision } = operation.answer;
      const told = acknowledged.get(revision) ?? [];
      told.push(operation as Acknowledged);
      acknowledged.set(revision, told);
      this.#checkFloor(operation as Acknowledged, violations);
    }
    this.#observe(acknowledged.get(this.revision) ?? [], undefined, violations);
    for (const { revision, changes } of log) {
      if (revision !== this.revision + 1n)
        violations.push(`revision ${revision} follows ${this.revision} in the log`);
      const told = acknowledged.get(revision) ?? [];
      const writer = this.#writer(revision, changes, told, open, violations);
      this.#apply(revision, changes, violations);
      this.#observe(told, writer, violations);
      acknowledged.delete(revision);
      this.revision = revision;
    }
    for (const [revision, told] of acknowledged)
      if (revision > this.revision)
        for (const operation of told)
          violations.push(
            `lost: ${describe(operation)} was acknowledged, the store ends at revision ${this.revision}`,
          );
    return violations;
  }

  /** Real-time order: what was acknowledged before an operation began precedes it. */
  #checkFloor(operation: Acknowledged, violations: string[]): void {
    const { revision, changed } = operation.answer as { revision: bigint; changed?: boolean };
    const tooLow = changed === true ? revision <= operation.floor : revision < operation.floor;
    if (tooLow)
      violations.push(
        `order: ${describe(operation)} began after revision ${operation.floor} had been seen`,
      );
  }

  /** The operation that made the revision. Takes it out of `open` if it had no answer. */
  #writer(
    revision: bigint,
    changes: readonly Change[],
    told: readonly Acknowledged[],
    open: Operation[],
    violations: string[],
  ): Operation | undefined {
    const claims = told.filter(({ answer }) => 'changed' in answer && answer.changed === true);
    // A revoke is not told whether its lease held keys. It may have made the revision, or it found
    // nothing to delete and names the revision it found.
    const revoke = told.find(
      ({ action }) => action.kind === 'revoke' && this.#explains(action, changes),
    );
    if (claims.length === 0 && revoke !== undefined) return revoke;
    if (claims.length > 1)
      violations.push(`revision ${revision} is claimed by ${claims.map(describe).join(' and ')}`);
    const [claim] = claims;
    if (claim !== undefined) {
      if (!this.#explains(claim.action, changes))
        violations.push(
          `lost or altered: ${describe(claim)}; revision ${revision} has ${JSON.stringify(changes, printBigint)}`,
        );
      return claim;
    }
    const index = open.findIndex((operation) => this.#explains(operation.action, changes));
    const [found] = index < 0 ? [] : open.splice(index, 1);
    if (found === undefined)
      violations.push(
        `nobody wrote revision ${revision}, or twice: ${JSON.stringify(changes, printBigint)}`,
      );
    else if (revision <= found.floor)
      violations.push(`order: ${describe(found)} took effect at ${revision}, before it began`);
    return found;
  }

  /** Whether the action, applied to the model, has exactly these changes. */
  #explains(action: Action, changes: readonly Change[]): boolean {
    const expected = this.#effect(action);
    return (
      expected.length === changes.length &&
      expected.every((one, index) => {
        const change = changes[index];
        return (
          change !== undefined &&
          one.type === change.type &&
          one.key === change.key &&
          one.value === change.value &&
          one.lease === change.lease
        );
      })
    );
  }

  #effect(action: Action): Pick<Change, 'type' | 'key' | 'value' | 'lease'>[] {
    const deletion = (key: string) => ({ type: 'delete', key, value: '', lease: 0n }) as const;
    switch (action.kind) {
      case 'put':
        return [{ type: 'put', key: action.key, value: action.value, lease: action.lease }];
      case 'delete':
        return this.entries.has(action.key) ? [deletion(action.key)] : [];
      case 'swap':
        return (this.entries.get(action.key)?.modRevision ?? 0n) === action.expected
          ? action.puts.map((put) => ({ type: 'put' as const, ...put, lease: 0n }))
          : [];
      case 'revoke':
        return this.#leaseKeys(action.lease).map(deletion);
      case 'grant':
      case 'read':
        return [];
    }
  }

  #leaseKeys(lease: bigint): string[] {
    return [...this.entries]
      .filter(([, entry]) => entry.lease === lease)
      .map(([key]) => key)
      .sort();
  }

  #apply(revision: bigint, changes: readonly Change[], violations: string[]): void {
    if (changes.length === 0) violations.push(`revision ${revision} is empty`);
    for (const change of changes) {
      if (change.type === 'delete') {
        if (!this.entries.delete(change.key))
          violations.push(`revision ${revision} deletes ${change.key}, which is absent`);
        continue;
      }
      const before = this.entries.get(change.key);
      const createRevision = before?.createRevision ?? revision;
      const version = (before?.version ?? 0n) + 1n;
      if (change.createRevision !== createRevision || change.version !== version)
        violations.push(
          `revision ${revision}: ${change.key} shows create ${change.createRevision} version ${change.version}, expected ${createRevision} and ${version}`,
        );
      const { value, lease } = change;
      this.entries.set(change.key, {
        value,
        createRevision,
        modRevision: revision,
        version,
        lease,
      });
    }
  }

  /** Answers that changed nothing name a revision too; the model at it must agree with them. */
  #observe(
    told: readonly Acknowledged[],
    writer: Operation | undefined,
    violations: string[],
  ): void {
    for (const operation of told) {
      if (operation === writer) continue;
      const { action } = operation;
      const answer = operation.answer as Extract<Operation['answer'], { kind: 'acknowledged' }>;
      if (action.kind === 'read') {
        const entry = this.entries.get(action.key);
        if (
          entry?.value !== answer.found?.value ||
          entry?.modRevision !== answer.found?.modRevision
        )
          violations.push(
            `stale or torn read: ${describe(operation)}, the model has ${JSON.stringify(entry, printBigint)}`,
          );
      } else if (action.kind !== 'grant' && this.#effect(action).length > 0)
        violations.push(`no effect: ${describe(operation)} should have changed something`);
    }
  }

  /** Compares the model with a listing of the store at the same revision. */
  compareListing(listing: ReadonlyMap<string, ModelEntry>): string[] {
    const keys = new Set([...this.entries.keys(), ...listing.keys()]);
    return [...keys].flatMap((key) => {
      const expected = JSON.stringify(this.entries.get(key), printBigint);
      const found = JSON.stringify(listing.get(key), printBigint);
      return expected === found ? [] : [`listing: ${key} is ${found}, expected ${expected}`];
    });
  }
}

/**
 * Compares what a watcher was given, across all its reconnections, with the log of the store: the
 * same revisions, each once and whole, in order.
 */
export function checkWatch(
  log: readonly RevisionOfLog[],
  delivered: readonly RevisionOfLog[],
): string[] {
  const violations: string[] = [];
  let last = (log[0]?.revision ?? 1n) - 1n;
  const byRevision = new Map(log.map((one) => [one.revision, one.changes]));
  for (const { revision, changes } of delivered) {
    if (revision <= last) violations.push(`watch: revision ${revision} after ${last}: duplicate`);
    else if (revision !== last + 1n)
      violations.push(`watch: revision ${revision} after ${last}: gap`);
    if (revision > last) last = revision;
    const expected = JSON.stringify(byRevision.get(revision), printBigint);
    const found = JSON.stringify(changes, printBigint);
    if (expected !== found)
      violations.push(`watch: revision ${revision} delivered ${found}, the log has ${expected}`);
  }
  const end = log.at(-1)?.revision;
  if (end !== undefined && last < end)
    violations.push(`watch: ended at revision ${last}, the store is at ${end}`);
  return violations;
}

function describe(operation: Operation): string {
  return `operation ${operation.id} ${JSON.stringify(operation.action, printBigint)} answered ${JSON.stringify(operation.answer, printBigint)}`;
}

function printBigint(_: string, value: unknown): unknown {
  return typeof value === 'bigint' ? `${value}` : value;
}
