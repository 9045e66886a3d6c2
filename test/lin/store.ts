/**
 * The store as a sequential object: what a client can ask of it, what it answers, and a model that
 * carries requests out one at a time. Revisions order all writes of a store.
 */
import { isAnswered, type Operation } from './history.ts';

export type Entry = {
  readonly value: string;
  readonly createRevision: number;
  readonly modRevision: number;
  readonly version: number;
  /** 0 for none. */
  readonly lease: bigint;
};

/** A change as one watch event shows it. */
export type Change = {
  readonly type: 'put' | 'delete';
  readonly key: string;
  /** The entry that was put; undefined for a deletion. */
  readonly entry: Entry | undefined;
};

/** Everything that happened in one revision, in order. */
export type Commit = { readonly revision: number; readonly changes: readonly Change[] };

export type Condition =
  /** Last changed at this revision; 0 means absent. */
  | { readonly key: string; readonly modRevision: number }
  /** Present with this value. */
  | { readonly key: string; readonly value: string };

export type Step =
  /** Values are unique in a history, so that a value tells who wrote it. */
  | { readonly kind: 'put'; readonly key: string; readonly value: string; readonly lease?: bigint }
  | { readonly kind: 'delete'; readonly key: string }
  | { readonly kind: 'read'; readonly key: string };

export type StepResult =
  | { readonly kind: 'put' }
  | { readonly kind: 'delete'; readonly deleted: number }
  | { readonly kind: 'read'; readonly entry: Entry | undefined };

export type StoreAction =
  /** A put, a deletion and a read are transactions of one step without conditions. */
  | {
      readonly kind: 'txn';
      readonly conditions: readonly Condition[];
      readonly success: readonly Step[];
      readonly failure: readonly Step[];
      /** Answered from what one member has, perhaps old; only for reads. */
      readonly serializable?: boolean;
    }
  | { readonly kind: 'read-at'; readonly key: string; readonly revision: number }
  /** Every key, read at once. */
  | { readonly kind: 'list'; readonly serializable?: boolean }
  | { readonly kind: 'grant'; readonly lease: bigint; readonly ttlSeconds: number }
  | { readonly kind: 'renew'; readonly lease: bigint }
  | { readonly kind: 'revoke'; readonly lease: bigint };

export type StoreAnswer = {
  /** Of the response's header. */
  readonly revision: number;
  /** Of transactions. */
  readonly succeeded?: boolean;
  /** One a step of the branch that was taken; one read for `read-at`. */
  readonly results?: readonly StepResult[];
  /** Of `list`. */
  readonly entries?: ReadonlyMap<string, Entry>;
};

export type StoreOperation = Operation<StoreAction, StoreAnswer>;
export type StoreTxn = Extract<StoreAction, { kind: 'txn' }>;

const one = (step: Step): StoreTxn => ({
  kind: 'txn',
  conditions: [],
  success: [step],
  failure: [],
});
export const put = (key: string, value: string, lease = 0n): StoreTxn =>
  one({ kind: 'put', key, value, lease });
export const remove = (key: string): StoreTxn => one({ kind: 'delete', key });
export const read = (key: string): StoreTxn => one({ kind: 'read', key });

/** Whether an answered transaction says that it made the revision which its header names. */
export function claimsRevision(operation: StoreOperation): boolean {
  if (operation.action.kind !== 'txn' || !isAnswered(operation)) return false;
  return (operation.outcome.answer.results ?? []).some(
    (result) => result.kind === 'put' || (result.kind === 'delete' && result.deleted > 0),
  );
}

export type Evaluation = {
  readonly succeeded: boolean;
  readonly results: readonly StepResult[];
  readonly changes: readonly Change[];
};

/** Carries a transaction out on `entries` without changing them. A key changes once per revision. */
export function evaluate(
  txn: StoreTxn,
  entries: ReadonlyMap<string, Entry>,
  newRevision: number,
): Evaluation {
  const succeeded = txn.conditions.every((condition) => {
    const entry = entries.get(condition.key);
    return 'value' in condition
      ? entry?.value === condition.value
      : (entry?.modRevision ?? 0) === condition.modRevision;
  });
  const written = new Map<string, Entry | undefined>();
  const current = (key: string) => (written.has(key) ? written.get(key) : entries.get(key));
  const changes: Change[] = [];
  const results = (succeeded ? txn.success : txn.failure).map((step): StepResult => {
    const before = current(step.key);
    if (step.kind === 'read') return { kind: 'read', entry: before };
    if (step.kind === 'delete') {
      if (before === undefined) return { kind: 'delete', deleted: 0 };
      written.set(step.key, undefined);
      changes.push({ type: 'delete', key: step.key, entry: undefined });
      return { kind: 'delete', deleted: 1 };
    }
    const entry = {
      value: step.value,
      createRevision: before?.createRevision ?? newRevision,
      modRevision: newRevision,
      version: (before?.version ?? 0) + 1,
      lease: step.lease ?? 0n,
    };
    written.set(step.key, entry);
    changes.push({ type: 'put', key: step.key, entry });
    return { kind: 'put' };
  });
  return { succeeded, results, changes };
}

export function applyChanges(entries: Map<string, Entry>, changes: readonly Change[]): void {
  for (const { key, entry } of changes)
    if (entry === undefined) entries.delete(key);
    else entries.set(key, entry);
}

export function sameEntry(left: Entry | undefined, right: Entry | undefined): boolean {
  if (left === undefined || right === undefined) return left === right;
  return (
    left.value === right.value &&
    left.createRevision === right.createRevision &&
    left.modRevision === right.modRevision &&
    left.version === right.version &&
    left.lease === right.lease
  );
}

export function sameChanges(left: readonly Change[], right: readonly Change[]): boolean {
  return (
    left.length === right.length &&
    left.every((change, index) => {
      const other = right[index];
      return (
        other !== undefined &&
        change.type === other.type &&
        change.key === other.key &&
        sameEntry(change.entry, other.entry)
      );
    })
  );
}

export function sameResults(left: readonly StepResult[], right: readonly StepResult[]): boolean {
  return (
    left.length === right.length &&
    left.every((result, index) => {
      const other = right[index];
      if (result.kind === 'read')
        return other?.kind === 'read' && sameEntry(result.entry, other.entry);
      if (result.kind === 'delete')
        return other?.kind === 'delete' && result.deleted === other.deleted;
      return other?.kind === 'put';
    })
  );
}
