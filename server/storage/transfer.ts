/**
 * How a whole state travels to a member whose next entries were released everywhere.
 *
 * The sender copies its state to a file once and serves it in chunks to whoever needs it. The
 * receiver spools the chunks to a file of its own, so that a broken stream, or a restart of the
 * receiver, costs only what was in flight; it checks every chunk as it comes and the whole before it
 * hands it to `State.install`.
 */
import { crc32 } from 'node:zlib';
import type { Configuration } from '../raft/configuration.ts';

/** Largest chunk. */
export const SNAPSHOT_CHUNK_BYTES = 256 * 1024;

/** What a chunk is sent with and checked against. */
export const chunkChecksum = (bytes: Uint8Array): number => crc32(bytes);

/** A copy of the state of one moment. Two copies with one `id` are the same bytes. */
export type SnapshotDescription = {
  readonly id: string;
  /** The last entry in it. */
  readonly index: number;
  readonly term: number;
  readonly sizeBytes: number;
  /** Of all bytes. */
  readonly sha256: Uint8Array;
};

/** A copy that is being sent. It stays on disk until everybody who took it has released it. */
export interface OutgoingSnapshot extends SnapshotDescription {
  /** Of the copied state. */
  readonly configuration: Configuration;
  /** Up to `SNAPSHOT_CHUNK_BYTES` from `offset`; empty at the end. */
  chunk(offset: number): Promise<Buffer>;
  /** Call once, whether or not the transfer succeeded. */
  release(): void;
}

/** The sender's side. */
export interface SnapshotOutbox {
  /**
   * A copy that reaches at least to `minIndex`: the entries after it must still be in the log. Several
   * receivers share one. Rejects with `NoSpaceError`.
   */
  take(minIndex: number): Promise<OutgoingSnapshot>;
  /** Gives up the copies, after those under way. */
  close(): Promise<void>;
}

/** A transfer that comes in. Calls may not overlap. */
export interface IncomingSnapshot {
  /** Bytes that are here already: the sender goes on from this one. */
  readonly offset: number;
  /**
   * Takes the chunk at `offset`, which may not be beyond `this.offset`. Rejects with
   * `SnapshotTransferError`, or with `NoSpaceError` after removing what was received.
   */
  write(offset: number, bytes: Uint8Array, checksum: number): Promise<void>;
  /** Checks the whole and makes it durable. What is wrong is removed: the transfer begins anew. */
  finish(): Promise<ReceivedSnapshot>;
  /** The stream ended early. What came stays, for the transfer to go on. */
  suspend(): Promise<void>;
}

/** The receiver's side: one transfer at a time. */
export interface SnapshotInbox {
  /**
   * Goes on with what is here of this very copy, or begins. Anything of another copy is removed, and
   * whoever was writing it is refused from then on. Rejects with `NoSpaceError`.
   */
  open(announced: SnapshotDescription): Promise<IncomingSnapshot>;
  /** Ends the transfer under way; what came of it stays. */
  close(): Promise<void>;
}

/** A whole state, checked. To be installed, or discarded. */
export type ReceivedSnapshot = {
  readonly index: number;
  readonly term: number;
  readonly sizeBytes: number;
  readonly content:
    | { readonly kind: 'file'; readonly path: string }
    | { readonly kind: 'memory'; readonly bytes: Uint8Array };
  /** Removes it. Does nothing once it is installed. */
  discard(): Promise<void>;
};
