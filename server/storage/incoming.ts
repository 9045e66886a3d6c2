/** What a receiver refuses, whatever it keeps the bytes in. */
import { SnapshotTransferError } from './errors.ts';
import { chunkChecksum, SNAPSHOT_CHUNK_BYTES, type SnapshotDescription } from './transfer.ts';

export type Chunk = {
  readonly offset: number;
  readonly bytes: Uint8Array;
  readonly checksum: number;
};

const nameOf = ({ index, term }: SnapshotDescription): string =>
  `the state of entry ${index} of term ${term}`;

/** Throws `SnapshotTransferError`. `haveBytes`: how many are here already. */
export function checkChunk(announced: SnapshotDescription, haveBytes: number, chunk: Chunk): void {
  const { offset, bytes, checksum } = chunk;
  const end = offset + bytes.length;
  if (offset > haveBytes || end > announced.sizeBytes || bytes.length > SNAPSHOT_CHUNK_BYTES) {
    throw new SnapshotTransferError(
      'unexpected-chunk',
      `While receiving ${nameOf(announced)}: a chunk of ${bytes.length} bytes at ${offset} is not allowed after ${haveBytes} of ${announced.sizeBytes} bytes, with at most ${SNAPSHOT_CHUNK_BYTES} bytes in a chunk. The sender has to go on from ${haveBytes}.`,
    );
  }
  if (chunkChecksum(bytes) === checksum) return;
  throw new SnapshotTransferError(
    'damaged-chunk',
    `While receiving ${nameOf(announced)}: the chunk at ${offset} has a wrong checksum. It was not taken and the sender sends it again; if this goes on, check the network and the memory of both machines.`,
  );
}

/** Throws `SnapshotTransferError` unless the hash is the announced one. */
export function checkWhole(announced: SnapshotDescription, sha256: Uint8Array): void {
  if (Buffer.compare(sha256, announced.sha256) === 0) return;
  throw new SnapshotTransferError(
    'damaged',
    `The received copy of ${nameOf(announced)} does not match the hash it was sent with. It was thrown away, nothing was installed, and the leader sends another one; if this goes on, check the disks and the memory of both machines.`,
  );
}

export const incomplete = (
  announced: SnapshotDescription,
  haveBytes: number,
): SnapshotTransferError =>
  new SnapshotTransferError(
    'incomplete',
    `Of ${nameOf(announced)} only ${haveBytes} of ${announced.sizeBytes} bytes have arrived. The sender has to go on from there.`,
  );

export const superseded = (announced: SnapshotDescription): SnapshotTransferError =>
  new SnapshotTransferError(
    'superseded',
    `The transfer of ${nameOf(announced)} was ended, or a newer one has taken its place.`,
  );
