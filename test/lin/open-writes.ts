/** The writes whose outcome their clients never learned, found again by what a revision shows. */
import {
  type Change,
  type Commit,
  type Entry,
  evaluate,
  type StoreOperation,
  type StoreTxn,
  sameChanges,
} from './store.ts';

type OpenWrite = {
  readonly operation: StoreOperation;
  readonly txn: StoreTxn;
  /** The newest revision known to anybody when the operation began. */
  readonly floor: number;
};

export class OpenWrites {
  readonly #byValue = new Map<string, OpenWrite>();
  /** By each key they may delete; only branches without a put, whose value would tell. */
  readonly #byDeletedKey = new Map<string, OpenWrite[]>();
  readonly #taken = new Set<OpenWrite>();

  constructor(
    operations: readonly StoreOperation[],
    floors: ReadonlyMap<number, number>,
    log: readonly Commit[],
  ) {
    const written = new Set(log.flatMap(({ changes }) => changes.map(({ entry }) => entry?.value)));
    for (const operation of operations) {
      const { action: txn, outcome } = operation;
      if (outcome.kind !== 'unknown' || txn.kind !== 'txn') continue;
      const write = { operation, txn, floor: floors.get(operation.id) ?? 0 };
      const puts = [...txn.success, ...txn.failure].filter((step) => step.kind === 'put');
      // Whoever put something that the log has did that, and not what its other branch would delete.
      const hasPut = puts.some(({ value }) => written.has(value));
      this.#index(write, txn.success, hasPut);
      this.#index(write, txn.failure, hasPut);
    }
    for (const writes of this.#byDeletedKey.values()) writes.sort(mostConstrainedFirst);
  }

  #index(write: OpenWrite, branch: StoreTxn['success'], hasPut: boolean): void {
    const put = branch.find((step) => step.kind === 'put');
    if (put !== undefined) {
      this.#byValue.set(put.value, write);
      return;
    }
    if (hasPut) return;
    for (const key of new Set(
      branch.filter(({ kind }) => kind === 'delete').map(({ key }) => key),
    )) {
      const writes = this.#byDeletedKey.get(key) ?? [];
      writes.push(write);
      this.#byDeletedKey.set(key, writes);
    }
  }

  /** The operation that can have made the revision out of `entries`. Each is given out once. */
  take(
    revision: number,
    changes: readonly Change[],
    entries: ReadonlyMap<string, Entry>,
  ): StoreOperation | undefined {
    const value = changes.find(({ entry }) => entry !== undefined)?.entry?.value;
    const candidates =
      value === undefined
        ? (this.#byDeletedKey.get(changes[0]?.key ?? '') ?? [])
        : [this.#byValue.get(value)];
    const found = candidates.find(
      (write) =>
        write !== undefined &&
        !this.#taken.has(write) &&
        write.floor < revision &&
        sameChanges(evaluate(write.txn, entries, revision).changes, changes),
    );
    if (found !== undefined) this.#taken.add(found);
    return found?.operation;
  }
}

/**
 * Several deletions can explain one revision. Conditions name a value or a revision, which never come
 * back, so whoever has one takes this chance or none; among the rest any choice is as good.
 */
function mostConstrainedFirst(left: OpenWrite, right: OpenWrite): number {
  return right.txn.conditions.length - left.txn.conditions.length;
}
