/** Copies of states that exist in memory only. */
import { createHash } from 'node:crypto';
import { type OutgoingSnapshot, SNAPSHOT_CHUNK_BYTES } from '../../server/storage/transfer.ts';

export function snapshotOf(bytes: Buffer): OutgoingSnapshot {
  const sha256 = createHash('sha256').update(bytes).digest();
  return {
    id: sha256.toString('hex'),
    index: 10,
    term: 1,
    sizeBytes: bytes.length,
    sha256,
    configuration: {
      voters: [1n, 2n],
      outgoing: [],
      learners: [],
      learnersNext: [],
      autoLeave: false,
    },
    chunk: async (offset) => bytes.subarray(offset, offset + SNAPSHOT_CHUNK_BYTES),
    release: () => {},
  };
}
