/**
 * Transactions: the public shape. A transaction is a value: every step returns a new one, so a part
 * can be kept and extended. Nothing is sent before `commit()`.
 */
import { invalidArgument } from './errors.ts';
import type { Key, KeyRange } from './keys.ts';
import type {
  DeleteFields,
  DeleteResult,
  KeyValue,
  ListFields,
  ListResult,
  PutFields,
  PutResult,
  ReadOptions,
} from './kv.ts';
import type { CallOptions } from './options.ts';

export type CompareOperator = '==' | '!=' | '<' | '>';

export type CompareTarget = 'createRevision' | 'modRevision' | 'version' | 'lease' | 'value';

/** One condition; made by `compare`. Over a range it must hold for every key; an absent key counts as zero. */
export type Compare = {
  readonly target: CompareTarget;
  readonly range: Key | KeyRange;
  readonly operator: CompareOperator;
  readonly operand: bigint | string | Uint8Array;
};

type NumberCompare<Range> = (range: Range, operator: CompareOperator, operand: bigint) => Compare;

const numberCompare =
  <Range extends Key | KeyRange>(target: CompareTarget): NumberCompare<Range> =>
  (range, operator, operand) => {
    if (typeof operand !== 'bigint') throw invalidArgument(target, operand, 'a bigint');
    return { target, range, operator, operand };
  };

/** The value of an absent key equals nothing: every comparison with it is false. */
const valueCompare =
  <Range extends Key | KeyRange>() =>
  (range: Range, operator: CompareOperator, operand: string | Uint8Array): Compare => ({
    target: 'value',
    range,
    operator,
    operand,
  });

/** Conditions on one key; under `range` on every key of a range (true when the range is empty). */
export const compare = {
  /** 0n means "the key does not exist". */
  createRevision: numberCompare<Key>('createRevision'),
  modRevision: numberCompare<Key>('modRevision'),
  version: numberCompare<Key>('version'),
  lease: numberCompare<Key>('lease'),
  value: valueCompare<Key>(),
  range: {
    /** With '==' 0n: "the range is empty". */
    createRevision: numberCompare<KeyRange>('createRevision'),
    modRevision: numberCompare<KeyRange>('modRevision'),
    version: numberCompare<KeyRange>('version'),
    lease: numberCompare<KeyRange>('lease'),
    value: valueCompare<KeyRange>(),
  },
} as const;

export type PutOperation = {
  readonly kind: 'put';
  readonly key: Key;
  readonly value: string | Uint8Array;
  readonly options: PutFields;
};
export type GetOperation = {
  readonly kind: 'get';
  readonly key: Key;
  readonly options: ReadOptions;
};
export type ListOperation = {
  readonly kind: 'list';
  readonly range: Key | KeyRange;
  readonly options: ListFields;
};
export type CountOperation = {
  readonly kind: 'count';
  readonly range: Key | KeyRange;
  readonly options: ReadOptions;
};
export type DeleteOperation = {
  readonly kind: 'delete';
  readonly range: Key | KeyRange;
  readonly options: DeleteFields;
};
export type NestedOperation<Then extends Operations, Else extends Operations> = {
  readonly kind: 'txn';
  readonly txn: Txn<Then, Else>;
};

export type Operation =
  | PutOperation
  | GetOperation
  | ListOperation
  | CountOperation
  | DeleteOperation
  // biome-ignore lint/suspicious/noExplicitAny: a nested transaction of any shape; its own type is kept where it is made
  | NestedOperation<any, any>;

export type Operations = readonly Operation[];

/** The steps of a transaction; made here, read when it commits. */
export const op = {
  put: (key: Key, value: string | Uint8Array, options: PutFields = {}): PutOperation => ({
    kind: 'put',
    key,
    value,
    options,
  }),
  get: (key: Key, options: ReadOptions = {}): GetOperation => ({ kind: 'get', key, options }),
  list: (range: Key | KeyRange, options: ListFields = {}): ListOperation => ({
    kind: 'list',
    range,
    options,
  }),
  count: (range: Key | KeyRange, options: ReadOptions = {}): CountOperation => ({
    kind: 'count',
    range,
    options,
  }),
  delete: (range: Key | KeyRange, options: DeleteFields = {}): DeleteOperation => ({
    kind: 'delete',
    range,
    options,
  }),
  /** A transaction inside this one; its conditions are checked against the state before both. */
  txn: <Then extends Operations, Else extends Operations>(
    txn: Txn<Then, Else>,
  ): NestedOperation<Then, Else> => ({ kind: 'txn', txn }),
} as const;

export type OperationResult<O> = O extends { readonly kind: 'put' }
  ? PutResult
  : O extends { readonly kind: 'get' }
    ? KeyValue | null
    : O extends { readonly kind: 'list' }
      ? ListResult
      : O extends { readonly kind: 'count' }
        ? bigint
        : O extends { readonly kind: 'delete' }
          ? DeleteResult
          : O extends NestedOperation<infer Then, infer Else>
            ? TxnResult<Then, Else>
            : never;

export type OperationResults<Ops extends Operations> = {
  [Index in keyof Ops]: OperationResult<Ops[Index]>;
};

/** What a transaction did: `responses` match the operations of the branch that ran, one by one. */
export type TxnResult<Then extends Operations, Else extends Operations> =
  | {
      readonly succeeded: true;
      /** The store's revision after the transaction; of a nested one, that of the outermost. */
      readonly revision: bigint;
      readonly responses: OperationResults<Then>;
    }
  | {
      readonly succeeded: false;
      readonly revision: bigint;
      readonly responses: OperationResults<Else>;
    };

/** The result of a transaction whose conditions did not all hold. */
export type TxnRefusal<Else extends Operations> = Extract<
  TxnResult<readonly [], Else>,
  { readonly succeeded: false }
>;

/** The parts of a transaction, for code that carries it on (nesting, guards, logging). */
export type TxnParts = {
  readonly compares: readonly Compare[];
  readonly success: Operations;
  readonly failure: Operations;
};

/**
 * `if` all conditions hold, `then` these operations, `else` those: atomically, at one revision.
 * Calling a step again adds to it.
 */
export interface Txn<Then extends Operations = readonly [], Else extends Operations = readonly []> {
  readonly parts: TxnParts;
  if(...compares: Compare[]): Txn<Then, Else>;
  then<const Ops extends Operations>(...operations: Ops): Txn<readonly [...Then, ...Ops], Else>;
  else<const Ops extends Operations>(...operations: Ops): Txn<Then, readonly [...Else, ...Ops]>;
  /**
   * Never repeated once it may have had an effect: a lost answer rejects with OUTCOME_UNKNOWN.
   *
   * @throws ConclaveError TOO_MANY_OPERATIONS, DUPLICATE_KEY, KEY_NOT_FOUND, LEASE_NOT_FOUND,
   *   COMPACTED, FUTURE_REVISION, NO_SPACE, TOO_LARGE, OUTCOME_UNKNOWN
   */
  commit(options?: CallOptions): Promise<TxnResult<Then, Else>>;
  /**
   * Waits until a condition does not hold any more, however long that takes, and reads: resolves with
   * what the `else` operations show at a revision at which one does not. The member answers when it
   * happens, so it takes one exchange, where a watch takes two or three and a read after it.
   *
   * For transactions with conditions on single keys, reads in `else` that are no transactions, and nothing
   * in `then`. Made again elsewhere when the member stops or is lost, as often as the client's `retry` allows.
   *
   * @throws ConclaveError UNIMPLEMENTED on etcd, which offers no such call: watch the keys there;
   *   RESOURCE_EXHAUSTED when too many calls of the connection wait, INVALID_ARGUMENT, ABORTED
   */
  whenFalse(options?: Pick<CallOptions, 'signal'>): Promise<TxnRefusal<Else>>;
}
