/** The conditions of a transaction. */
import { EMPTY } from './binary.ts';
import type { ForwardReader } from './draft.ts';
import { currentBounds } from './keys.ts';
import { type Current, decodeCurrent } from './records.ts';
import { slices } from './slices.ts';
import { readCurrent, readVersion } from './store.ts';
import { type Compare, NO_LEASE } from './types.ts';

/** What an absent key is compared as, except by value: that never holds, not even "not equal". */
const ABSENT: Current = {
  deleted: true,
  revision: 0,
  sub: 0,
  createRevision: 0,
  version: 0,
  lease: NO_LEASE,
};

/** Whether a condition holds for every key of its span; a span without keys is one absent key. */
export function compareHolds(reader: ForwardReader, compare: Compare): boolean {
  if (compare.rangeEnd.length === 0) {
    const current = readCurrent(reader, compare.key);
    return holdsFor(reader, compare, current ?? ABSENT);
  }
  const { start, end } = currentBounds(compare);
  let keys = 0;
  for (const slice of slices(reader, start, end)) {
    for (const [, data] of slice) {
      keys += 1;
      if (!holdsFor(reader, compare, decodeCurrent(data))) return false;
    }
  }
  return keys > 0 || holdsFor(reader, compare, ABSENT);
}

function holdsFor(reader: ForwardReader, compare: Compare, current: Current): boolean {
  switch (compare.target) {
    case 'value': {
      if (current === ABSENT) return false;
      const value = readVersion(reader, current)?.value ?? EMPTY;
      return relationHolds(compare.result, Buffer.compare(value, compare.operand));
    }
    case 'version':
      return relationHolds(compare.result, current.version - compare.operand);
    case 'create':
      return relationHolds(compare.result, current.createRevision - compare.operand);
    case 'mod':
      return relationHolds(compare.result, current.revision - compare.operand);
    case 'lease': {
      const { lease } = current;
      const order = lease === compare.operand ? 0 : lease < compare.operand ? -1 : 1;
      return relationHolds(compare.result, order);
    }
  }
}

function relationHolds(result: Compare['result'], order: number): boolean {
  switch (result) {
    case 'equal':
      return order === 0;
    case 'not-equal':
      return order !== 0;
    case 'greater':
      return order > 0;
    case 'less':
      return order < 0;
  }
}
