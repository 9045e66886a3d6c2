/**
 * The Snapshot stream: the store in pieces, then its SHA-256.
 *
 * The payload is padded to whole sectors of 512 bytes: `etcdctl snapshot save` takes a file for
 * complete when its size is a multiple of that plus the hash.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { Fault } from '../faults.ts';
import { SnapshotResponse } from '../wire/etcdserverpb/rpc.ts';
import { headerNow } from './header.ts';
import type { Member } from './member.ts';
import type { ServedResponses } from './served-stream.ts';
import { statusOf } from './status.ts';
import type { OpenStream, OpenStreams } from './streams.ts';
import { ETCD_CLUSTER_VERSION } from './version.ts';

const BLOB_BYTES = 32 * 1024;
const SECTOR_BYTES = 512;

export type SnapshotOptions = {
  readonly streams: OpenStreams;
  readonly onError: (error: unknown) => void;
};

export async function serveSnapshot(
  call: ServedResponses,
  member: Member,
  { streams, onError }: SnapshotOptions,
): Promise<void> {
  const gone = new AbortController();
  const stream: OpenStream = {
    needsLeader: false,
    fail: (fault: Fault) => gone.abort(fault),
  };
  streams.add(stream);
  call.on('cancelled', () => gone.abort(new Fault('canceled')));
  try {
    const { sizeBytes, chunks } = await member.snapshot();
    const total = Math.ceil(sizeBytes / SECTOR_BYTES) * SECTOR_BYTES;
    const hash = createHash('sha256');
    let sent = 0;
    const send = async (blob: Buffer) => {
      gone.signal.throwIfAborted();
      hash.update(blob);
      sent += blob.length;
      await write(call, encode(member, blob, total - sent), gone.signal);
    };
    for await (const chunk of chunks) {
      for (let at = 0; at < chunk.length; at += BLOB_BYTES) {
        const end = Math.min(at + BLOB_BYTES, chunk.length);
        await send(Buffer.from(chunk.buffer, chunk.byteOffset + at, end - at));
      }
    }
    if (sent < total) await send(Buffer.alloc(total - sent));
    await write(call, encode(member, hash.digest(), 0), gone.signal);
    call.end();
  } catch (error) {
    onError(error);
    call.emit('error', statusOf(error));
  } finally {
    streams.delete(stream);
  }
}

function encode(member: Member, blob: Buffer, remainingBytes: number): Buffer {
  const message: SnapshotResponse = {
    header: headerNow(member),
    remainingBytes: BigInt(remainingBytes),
    blob,
    version: ETCD_CLUSTER_VERSION,
  };
  return SnapshotResponse.encode(message).finish();
}

/** Resolves once the transport takes more; rejects when the client is gone or the server stops. */
async function write(call: ServedResponses, message: Buffer, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  if (call.write(message)) return;
  try {
    await once(call, 'drain', { signal });
  } catch {
    signal.throwIfAborted();
  }
}
