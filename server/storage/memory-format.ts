/** A state in memory as bytes, for another one to install: position, then key and value of each row. */
import type { Bytes } from '../mvcc/types.ts';
import type { LogPosition } from '../ports.ts';
import { bytesOf, keyOf, SortedMap } from './byte-order.ts';
import { otherContents } from './errors.ts';
import type { ReceivedSnapshot } from './transfer.ts';

const POSITION_BYTES = 16;
const LENGTHS_BYTES = 8;

export function encodeState(applied: LogPosition, tree: SortedMap<Bytes>): Uint8Array {
  const position = Buffer.alloc(POSITION_BYTES);
  position.writeBigUInt64LE(BigInt(applied.index), 0);
  position.writeBigUInt64LE(BigInt(applied.term), 8);
  const parts: Bytes[] = [position];
  for (const [name, value] of tree.entries()) {
    const key = bytesOf(name);
    const lengths = Buffer.alloc(LENGTHS_BYTES);
    lengths.writeUInt32LE(key.length, 0);
    lengths.writeUInt32LE(value.length, 4);
    parts.push(lengths, key, value);
  }
  return Buffer.concat(parts);
}

/** Throws `SnapshotTransferError` when the contents are not those that were announced. */
export function decodeState(snapshot: ReceivedSnapshot): {
  readonly applied: LogPosition;
  readonly tree: SortedMap<Bytes>;
} {
  const { content } = snapshot;
  if (content.kind !== 'memory') throw new Error('a state in memory is installed from memory');
  const bytes = Buffer.from(content.bytes);
  const applied = {
    index: Number(bytes.readBigUInt64LE(0)),
    term: Number(bytes.readBigUInt64LE(8)),
  };
  if (applied.index !== snapshot.index || applied.term !== snapshot.term) {
    throw otherContents(snapshot, applied);
  }
  const tree = new SortedMap<Bytes>();
  let at = POSITION_BYTES;
  while (at < bytes.length) {
    const keyEnd = at + LENGTHS_BYTES + bytes.readUInt32LE(at);
    const end = keyEnd + bytes.readUInt32LE(at + 4);
    const key = keyOf(bytes.subarray(at + LENGTHS_BYTES, keyEnd));
    tree.set(key, Uint8Array.from(bytes.subarray(keyEnd, end)));
    at = end;
  }
  return { applied, tree };
}
