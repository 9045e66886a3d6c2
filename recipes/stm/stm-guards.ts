/** What a transaction is guarded by, and whether that is why it was refused. */
import type { Key } from '../../sdk/keys.ts';
import { toBuffer } from '../../sdk/keys.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { type Compare, type GetOperation, op, type Txn } from '../../sdk/txn.ts';
import type { StmGuard } from './stm-transaction.ts';

/** The conditions of all guards. @throws what a guard throws that holds no more */
export const conditionsOf = (guards: Iterable<StmGuard>, empty: Txn): readonly Compare[] =>
  [...guards].flatMap((held) => held.guard(empty).parts.compares);

type KeyCompare = Compare & { readonly range: Key };

const isOfOneKey = (condition: Compare): condition is KeyCompare =>
  typeof condition.range === 'string' || condition.range instanceof Uint8Array;

/** Those that `broken` can judge, and what it has to see for that. */
export const judgeable = (conditions: readonly Compare[]): readonly KeyCompare[] =>
  conditions.filter(isOfOneKey);

export const readsFor = (conditions: readonly KeyCompare[]): readonly GetOperation[] =>
  conditions.map(({ range }) => op.get(range));

/** The first condition that does not hold for what was found, each for its key. */
export const broken = (
  conditions: readonly KeyCompare[],
  found: readonly (KeyValue | null)[],
): KeyCompare | undefined =>
  conditions.find((condition, index) => !holds(condition, found[index] ?? null));

function holds({ target, operator, operand }: KeyCompare, kv: KeyValue | null): boolean {
  if (target === 'value') {
    if (kv === null) return false;
    const order = Buffer.compare(kv.value, toBuffer(operand as string | Uint8Array));
    return compared(order, 0, operator);
  }
  return compared(kv?.[target] ?? 0n, operand as bigint, operator);
}

function compared<N extends number | bigint>(
  one: N,
  other: N,
  operator: Compare['operator'],
): boolean {
  switch (operator) {
    case '==':
      return one === other;
    case '!=':
      return one !== other;
    case '<':
      return one < other;
    case '>':
      return one > other;
  }
}
