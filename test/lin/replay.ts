/**
 * Strict serializability of a store whose writes are ordered by revisions, for whole histories, in
 * O(n log n): replay the log on a model, attribute every revision to the one operation that made it,
 * hold every answer against the model at the revision it names, and hold the order of revisions
 * against the order in real time.
 *
 * Found this way: lost, altered, duplicated and reordered writes, writes that nobody made, revisions
 * that are missing or used twice, split transactions, stale and torn reads, leases whose end did not
 * take their keys.
 *
 * Whoever makes a history keeps to two rules, without which an operation without an answer could not
 * be told from another: values are unique, and keys on a lease are deleted by that lease alone.
 */
import { type Answered, describeOperation, isAnswered, print } from './history.ts';
import { OpenWrites } from './open-writes.ts';
import {
  applyChanges,
  type Change,
  type Commit,
  claimsRevision,
  type Entry,
  evaluate,
  type StoreAction,
  type StoreAnswer,
  type StoreOperation,
  sameChanges,
  sameEntry,
  sameResults,
} from './store.ts';

type AnsweredStoreOperation = Answered<StoreAction, StoreAnswer>;

export type ReplayInput = {
  /** Every revision after `after`, in the order the store gives them. */
  readonly log: readonly Commit[];
  readonly operations: readonly StoreOperation[];
  /**
   * The revision before the log and what the store held then; every operation began after it.
   * Default: 1, the empty store.
   */
  readonly after?: { readonly revision: number; readonly entries: ReadonlyMap<string, Entry> };
  /** Leases that may end by themselves: whose holders stopped renewing them, or could not. */
  readonly mayExpire?: (lease: bigint) => boolean;
};

/** What is wrong with the history, in words; empty when it is strictly serializable. */
export function checkRevisions(input: ReplayInput): string[] {
  return new Replay(input).run();
}

/**
 * For each operation the newest revision that had been told to anybody before it was invoked. A
 * stale answer of a serializable read counts as well: its revision exists.
 */
export function revisionFloors(operations: readonly StoreOperation[]): Map<number, number> {
  const answered = operations.filter(isAnswered).sort((a, b) => a.returned - b.returned);
  const floors = new Map<number, number>();
  let next = 0;
  let floor = 0;
  for (const operation of [...operations].sort((a, b) => a.invoked - b.invoked)) {
    for (;;) {
      const told = answered[next];
      if (told === undefined || told.returned >= operation.invoked) break;
      floor = Math.max(floor, told.outcome.answer.revision);
      next += 1;
    }
    floors.set(operation.id, floor);
  }
  return floors;
}

class Replay {
  readonly #input: ReplayInput;
  readonly #violations: string[] = [];
  readonly #floors: Map<number, number>;
  /** Answers by the revision at which their content must hold. */
  readonly #answers = new Map<number, AnsweredStoreOperation[]>();
  readonly #open: OpenWrites;
  readonly #entries: Map<string, Entry>;
  readonly #keysOfLease = new Map<bigint, Set<string>>();
  readonly #revokes = new Map<bigint, StoreOperation[]>();
  readonly #endedLeases = new Set<bigint>();
  readonly #start: number;
  #revision: number;

  constructor(input: ReplayInput) {
    this.#input = input;
    this.#floors = revisionFloors(input.operations);
    this.#open = new OpenWrites(input.operations, this.#floors, input.log);
    this.#start = input.after?.revision ?? 1;
    this.#revision = this.#start;
    this.#entries = new Map(input.after?.entries);
    for (const [key, { lease }] of this.#entries) this.#attach(key, lease);
  }

  run(): string[] {
    for (const operation of this.#input.operations) this.#register(operation);
    this.#checkAnswers(this.#revision, undefined);
    for (const commit of this.#input.log) this.#advance(commit);
    for (const [revision, told] of this.#answers)
      for (const operation of told)
        this.#violations.push(
          `lost: ${describeOperation(operation)} names revision ${revision}, which the log, ending at ${this.#revision}, does not have`,
        );
    return this.#violations;
  }

  #register(operation: StoreOperation): void {
    const { action, outcome } = operation;
    if (action.kind === 'revoke' && outcome.kind !== 'fail')
      add(this.#revokes, action.lease, operation);
    if (!isAnswered(operation)) return;
    this.#checkOrder(operation);
    const at = contentRevision(operation);
    if (at >= this.#start) add(this.#answers, at, operation);
  }

  #advance({ revision, changes }: Commit): void {
    if (revision !== this.#revision + 1)
      this.#violations.push(`log: revision ${revision} follows ${this.#revision}`);
    const told = this.#answers.get(revision) ?? [];
    const writer = this.#writer(revision, changes, told);
    this.#checkChanges(revision, changes);
    this.#revision = revision;
    for (const { key, entry } of changes) {
      this.#keysOfLease.get(this.#entries.get(key)?.lease ?? 0n)?.delete(key);
      this.#attach(key, entry?.lease ?? 0n);
    }
    applyChanges(this.#entries, changes);
    this.#checkAnswers(revision, writer);
  }

  #attach(key: string, lease: bigint): void {
    if (lease === 0n) return;
    const keys = this.#keysOfLease.get(lease) ?? new Set();
    keys.add(key);
    this.#keysOfLease.set(lease, keys);
  }

  /** Real-time order: whatever was told before an operation began precedes it. */
  #checkOrder(operation: AnsweredStoreOperation): void {
    const { action, outcome } = operation;
    // A renewal changes nothing that revisions order: its header shows what the member had by then.
    if (action.kind === 'renew') return;
    if ((action.kind === 'txn' || action.kind === 'list') && action.serializable === true) return;
    const floor = Math.max(this.#start, this.#floors.get(operation.id) ?? 0);
    const { revision } = outcome.answer;
    if (claimsRevision(operation) ? revision <= floor : revision < floor)
      this.#violations.push(
        `order: ${describeOperation(operation)} began after revision ${floor} had been told`,
      );
  }

  /** The operation that made the revision, held against what the revision shows. */
  #writer(
    revision: number,
    changes: readonly Change[],
    told: readonly AnsweredStoreOperation[],
  ): StoreOperation | undefined {
    const claims = told.filter(
      (operation) => claimsRevision(operation) && operation.outcome.answer.revision === revision,
    );
    if (claims.length > 1)
      this.#violations.push(
        `revision ${revision} was given out twice: ${claims.map(describeOperation).join(' and ')}`,
      );
    const [claim] = claims;
    if (claim !== undefined) {
      this.#checkWriter(claim, revision, changes);
      return claim;
    }
    const open = this.#open.take(revision, changes, this.#entries);
    if (open !== undefined) {
      this.#checkWriter(open, revision, changes);
      return open;
    }
    if (!this.#isEndOfLease(revision, changes))
      this.#violations.push(
        `revision ${revision} was written by nobody, or twice: ${print(changes)}`,
      );
    return undefined;
  }

  #checkWriter(writer: StoreOperation, revision: number, changes: readonly Change[]): void {
    if (writer.action.kind !== 'txn') return;
    const expected = evaluate(writer.action, this.#entries, revision);
    if (!sameChanges(expected.changes, changes))
      this.#violations.push(
        `lost or altered: ${describeOperation(writer)}: revision ${revision} has ${print(changes)}, expected ${print(expected.changes)}`,
      );
    if (isAnswered(writer)) this.#compare(writer, expected.succeeded, expected.results);
  }

  /** A lease ends once, with all its keys in one revision. */
  #isEndOfLease(revision: number, changes: readonly Change[]): boolean {
    const [first] = changes;
    const lease = this.#entries.get(first?.key ?? '')?.lease ?? 0n;
    const keys = this.#keysOfLease.get(lease);
    if (lease === 0n || keys === undefined) return false;
    const isWhole =
      changes.length === keys.size &&
      changes.every(({ type, key }) => type === 'delete' && keys.has(key));
    if (!isWhole) return false;
    const revokes = (this.#revokes.get(lease) ?? []).some(
      (operation) =>
        (this.#floors.get(operation.id) ?? 0) < revision &&
        (!isAnswered(operation) || operation.outcome.answer.revision >= revision),
    );
    if (!revokes && this.#input.mayExpire?.(lease) !== true) return false;
    this.#endedLeases.add(lease);
    return true;
  }

  /** What each version says about itself follows from the versions before it. */
  #checkChanges(revision: number, changes: readonly Change[]): void {
    if (changes.length === 0) this.#violations.push(`revision ${revision} is empty`);
    for (const { type, key, entry } of changes) {
      const before = this.#entries.get(key);
      if (type === 'delete') {
        if (before === undefined)
          this.#violations.push(`revision ${revision} deletes ${key}, which is absent`);
        continue;
      }
      const isSound =
        entry?.modRevision === revision &&
        entry.createRevision === (before?.createRevision ?? revision) &&
        entry.version === (before?.version ?? 0) + 1;
      if (entry !== undefined && this.#endedLeases.has(entry.lease))
        this.#violations.push(
          `lease: revision ${revision} attaches ${key} to lease ${entry.lease}, which had ended`,
        );
      if (!isSound)
        this.#violations.push(
          `revision ${revision} shows ${key} as ${print(entry)} after ${print(before)}`,
        );
    }
  }

  /** Answers that changed nothing name a revision too; the store at it must agree with them. */
  #checkAnswers(revision: number, writer: StoreOperation | undefined): void {
    for (const operation of this.#answers.get(revision) ?? [])
      if (operation !== writer) this.#checkAnswer(operation);
    this.#answers.delete(revision);
  }

  #checkAnswer(operation: AnsweredStoreOperation): void {
    const { action, outcome } = operation;
    const { answer } = outcome;
    switch (action.kind) {
      case 'txn': {
        const expected = evaluate(action, this.#entries, this.#revision + 1);
        if (expected.changes.length > 0)
          this.#violations.push(
            `no effect: ${describeOperation(operation)} should have changed ${print(expected.changes)}`,
          );
        this.#compare(operation, expected.succeeded, expected.results);
        return;
      }
      case 'read-at':
        this.#compare(operation, undefined, [
          { kind: 'read', entry: this.#entries.get(action.key) },
        ]);
        return;
      case 'list': {
        const keys = new Set([...this.#entries.keys(), ...(answer.entries?.keys() ?? [])]);
        for (const key of keys)
          if (!sameEntry(this.#entries.get(key), answer.entries?.get(key)))
            this.#violations.push(
              `stale or torn read: listing ${operation.id} has ${key} as ${print(answer.entries?.get(key))}, the model ${print(this.#entries.get(key))}`,
            );
        return;
      }
      case 'revoke': {
        const left = this.#keysOfLease.get(action.lease)?.size ?? 0;
        if (left > 0)
          this.#violations.push(
            `no effect: ${describeOperation(operation)} left ${left} keys at revision ${this.#revision}`,
          );
        return;
      }
      case 'grant':
      case 'renew':
        return;
    }
  }

  #compare(
    operation: AnsweredStoreOperation,
    succeeded: boolean | undefined,
    results: Parameters<typeof sameResults>[0],
  ): void {
    const { answer } = operation.outcome;
    const branchAgrees = succeeded === undefined || (answer.succeeded ?? true) === succeeded;
    if (!branchAgrees || !sameResults(results, answer.results ?? []))
      this.#violations.push(
        `stale or torn read: ${describeOperation(operation)}, the model says ${print({ succeeded, results })}`,
      );
  }
}

function contentRevision({ action, outcome }: AnsweredStoreOperation): number {
  return action.kind === 'read-at' ? action.revision : outcome.answer.revision;
}

function add<Key, Value>(map: Map<Key, Value[]>, key: Key, value: Value): void {
  const values = map.get(key);
  if (values === undefined) map.set(key, [value]);
  else values.push(value);
}
