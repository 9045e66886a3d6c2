import {
  type Compare,
  type CompareOperator,
  type CompareTarget,
  compare,
  type Operation,
} from '../../../../sdk/txn.ts';

/** A transaction as it was read, before it becomes one. */
export type TxnParts = {
  readonly compares: readonly Compare[];
  readonly onSuccess: readonly Operation[];
  readonly onFailure: readonly Operation[];
};

/** @param operand a revision, version or lease as a number; a value as text or bytes */
export function makeCompare(
  target: CompareTarget,
  key: string | Uint8Array,
  operator: CompareOperator,
  operand: bigint | string | Uint8Array,
): Compare {
  if (target === 'value') {
    return compare.value(key, operator, typeof operand === 'bigint' ? `${operand}` : operand);
  }
  if (typeof operand !== 'bigint') throw new TypeError(`${target} compares with a number`);
  return compare[target](key, operator, operand);
}
