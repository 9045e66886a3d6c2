/**
 * The vocabulary of the store: plain values, no wire types.
 *
 * Revisions, versions and counts are `number`: they count events of one store and stay far below
 * 2^53. What a client sends beyond that is clamped at the edge, which keeps every comparison exact.
 * Lease ids are arbitrary 64-bit numbers and stay `bigint`.
 */
import type { FaultCode } from '../faults.ts';

export type Bytes = Uint8Array;
export type Revision = number;
export type LeaseId = bigint;

export const NO_LEASE: LeaseId = 0n;

/** Where a version is stored: its revision and its place among the changes of that revision. */
export type Position = { readonly revision: Revision; readonly sub: number };

export type KeyValue = {
  readonly key: Bytes;
  readonly value: Bytes;
  readonly createRevision: Revision;
  readonly modRevision: Revision;
  /** 1 at creation, +1 at every put; a deletion ends the count. */
  readonly version: number;
  readonly lease: LeaseId;
  /** In events: the version that this one replaced, so that the value before is one look-up. */
  readonly replaces?: Position;
};

export type Event =
  | { readonly kind: 'put'; readonly kv: KeyValue }
  /** `kv` carries only the key and the revision of the deletion. */
  | { readonly kind: 'delete'; readonly kv: KeyValue };

/**
 * Which keys an operation concerns, in etcd's form: `rangeEnd` empty is the single key, `[0]` is
 * every key from `key` on, otherwise the half-open interval [key, rangeEnd).
 */
export type KeySpan = { readonly key: Bytes; readonly rangeEnd: Bytes };

export type SortOrder = 'none' | 'ascend' | 'descend';
export type SortTarget = 'key' | 'version' | 'create' | 'mod' | 'value';

export type RangeRequest = KeySpan & {
  readonly kind: 'range';
  /** 0 or less: no limit. */
  readonly limit: number;
  /** 0 or less: the newest. */
  readonly revision: Revision;
  readonly sortOrder: SortOrder;
  readonly sortTarget: SortTarget;
  readonly keysOnly: boolean;
  readonly countOnly: boolean;
  /** Nobody asks for the count: where a limit in key order leaves keys out, it is one more than the limit. */
  readonly uncounted: boolean;
  /** 0 is unset for each of the four filters. */
  readonly minModRevision: Revision;
  readonly maxModRevision: Revision;
  readonly minCreateRevision: Revision;
  readonly maxCreateRevision: Revision;
};
export type PutRequest = {
  readonly kind: 'put';
  readonly key: Bytes;
  readonly value: Bytes;
  readonly lease: LeaseId;
  readonly prevKv: boolean;
  readonly ignoreValue: boolean;
  readonly ignoreLease: boolean;
};
export type DeleteRangeRequest = KeySpan & {
  readonly kind: 'delete-range';
  readonly prevKv: boolean;
};
export type CompareResult = 'equal' | 'greater' | 'less' | 'not-equal';
export type Compare = KeySpan & {
  readonly result: CompareResult;
} & (
    | { readonly target: 'version' | 'create' | 'mod'; readonly operand: number }
    | { readonly target: 'value'; readonly operand: Bytes }
    | { readonly target: 'lease'; readonly operand: LeaseId }
  );
export type TxnRequest = {
  readonly kind: 'txn';
  readonly compare: readonly Compare[];
  readonly success: readonly Operation[];
  readonly failure: readonly Operation[];
};
export type Operation = RangeRequest | PutRequest | DeleteRangeRequest | TxnRequest;

/** Takes the pairs of a range in their order: all of them at a time may be more than memory allows. */
export interface PairSink {
  add(kv: KeyValue): void;
}
export type RangeResult = {
  readonly kind: 'range';
  /** Empty where they went to a `PairSink`. */
  readonly kvs: readonly KeyValue[];
  readonly more: boolean;
  /** All keys of the span at that revision, whatever the limit and the filters. */
  readonly count: number;
  /** The store's revision when the read was done; header.revision of the answer. */
  readonly revision: Revision;
};
export type PutResult = {
  readonly kind: 'put';
  readonly prevKv: KeyValue | undefined;
  readonly revision: Revision;
};
export type DeleteRangeResult = {
  readonly kind: 'delete-range';
  readonly deleted: number;
  readonly prevKvs: readonly KeyValue[];
  readonly revision: Revision;
};
export type TxnResult = {
  readonly kind: 'txn';
  readonly succeeded: boolean;
  readonly responses: readonly OperationResult[];
  /** 0 for a nested transaction: only the outermost one has a revision. */
  readonly revision: Revision;
};
export type OperationResult = RangeResult | PutResult | DeleteRangeResult | TxnResult;

/** A refusal as a value: what apply and reads return instead of throwing. */
export type FaultResult = {
  readonly kind: 'fault';
  readonly code: FaultCode;
  readonly revision: Revision;
};
