/** Long scans in pieces of `limits.readSliceKeys`. */
import { limits } from '../limits.ts';
import type { ForwardReader } from './draft.ts';
import { successor } from './keys.ts';
import type { Bytes } from './types.ts';

/**
 * The entries of [start, end), each piece read when it is asked for: writes made between two pieces
 * show in the later one.
 */
export function* slices(
  reader: ForwardReader,
  start: Bytes,
  end: Bytes,
): Generator<readonly (readonly [key: Bytes, value: Bytes])[], void> {
  let from = start;
  while (Buffer.compare(from, end) < 0) {
    const slice = reader.scan(from, end, { limit: limits.readSliceKeys });
    yield slice;
    const last = slice[slice.length - 1];
    if (last === undefined || slice.length < limits.readSliceKeys) return;
    from = successor(last[0]);
  }
}
