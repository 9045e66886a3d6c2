/**
 * Sends a copy of the state, on a connection of its own so that it delays nobody. The receiver says
 * where to go on, so a broken connection costs only what was under way.
 */
import { Status } from '../faults.ts';
import type { Timers } from '../ports.ts';
import { chunkChecksum, type OutgoingSnapshot, SNAPSHOT_CHUNK_BYTES } from '../storage/transfer.ts';
import { SnapshotPart, SnapshotProgress } from '../wire/conclave/v1/raft.ts';
import type { ClientCall } from './client-call.ts';
import { ClientSession } from './client-session.ts';
import { encodeMessage } from './encode.ts';
import { CallError } from './grpc.ts';
import { type SnapshotMessage, SnapshotSendError } from './transport.ts';

export const SNAPSHOT_PATH = '/conclave.v1.Peer/Snapshot';

/** In a row, without a byte more at the receiver. */
const ATTEMPTS = 5;
const PAUSE_MS = 500;
/** Under way: what the receiver has to hold, and what the connection carries at a time. */
const WINDOW_BYTES = 4 * SNAPSHOT_CHUNK_BYTES;
/** Without progress for so long an attempt has failed; the last step installs the copy. */
const STALL_MS = 10_000;
const INSTALL_MS = 120_000;

export type SnapshotSend = {
  readonly urls: readonly string[];
  readonly headers: () => Record<string, string>;
  /** Throws unless this is the member that was meant. */
  readonly check: (headers: Readonly<Record<string, unknown>>) => Promise<void>;
  readonly message: SnapshotMessage;
  readonly source: OutgoingSnapshot;
  readonly signal: AbortSignal;
  readonly timers: Timers;
  /** Called with each connection, to have it ticked until it is over. */
  readonly watch: (session: ClientSession) => void;
};

/** As in `Transport.sendSnapshot`. */
export async function sendSnapshot(send: SnapshotSend): Promise<void> {
  let failures = 0;
  let reached = 0;
  for (let attempt = 0; ; attempt += 1) {
    send.signal.throwIfAborted();
    const url = send.urls[attempt % send.urls.length];
    if (url === undefined) throw new SnapshotSendError('the member has no peer URL');
    const upload = new Upload(send, url);
    try {
      await upload.done;
      return;
    } catch (error) {
      send.signal.throwIfAborted();
      if (isFinal(error)) throw new SnapshotSendError(messageOf(error), { cause: error });
      failures = upload.offset > reached ? 1 : failures + 1;
      reached = Math.max(reached, upload.offset);
      if (failures >= ATTEMPTS) {
        throw new SnapshotSendError(
          `gave up after ${failures} attempts at byte ${reached} of ${send.source.sizeBytes}: ${messageOf(error)}`,
          { cause: error },
        );
      }
    }
    await pause(send, PAUSE_MS * failures);
  }
}

/** The receiver has no room, or does not let this member in: trying again at once will not help. */
const isFinal = (error: unknown): boolean =>
  error instanceof CallError &&
  (error.status === Status.RESOURCE_EXHAUSTED || error.status === Status.FAILED_PRECONDITION);

const messageOf = (error: unknown): string =>
  error instanceof Error ? error.message : String(error);

function pause({ timers, signal }: SnapshotSend, delayMs: number): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      cancel();
      signal.removeEventListener('abort', done);
      resolve();
    };
    const cancel = timers.after(delayMs, done);
    signal.addEventListener('abort', done);
  });
}

/** One attempt. */
class Upload {
  readonly done: Promise<void>;
  /** Bytes that the receiver is known to have. */
  offset = 0;
  readonly #send: SnapshotSend;
  readonly #session: ClientSession;
  readonly #call: ClientCall;
  /** The next byte to send; undefined until the receiver has said where it goes on. */
  #next: number | undefined;
  #isReading = false;
  #isInstalled = false;
  #isOver = false;
  #cancelStall: () => void = () => {};
  #settle: (error: unknown) => void = () => {};

  constructor(send: SnapshotSend, url: string) {
    this.#send = send;
    this.done = new Promise((resolve, reject) => {
      this.#settle = (error) => {
        if (this.#isOver) return;
        this.#isOver = true;
        this.#cancelStall();
        send.signal.removeEventListener('abort', abort);
        this.#session.close();
        if (error === undefined) resolve();
        else reject(error);
      };
    });
    const abort = () => this.#settle(send.signal.reason);
    send.signal.addEventListener('abort', abort);
    this.#session = new ClientSession(url, (error) => this.#settle(error));
    send.watch(this.#session);
    this.#call = this.#session.call(SNAPSHOT_PATH, send.headers(), {
      accepted: (headers) => this.#begin(headers),
      message: (message) => this.#progress(message),
      end: (error) => {
        const early = new Error('the receiver ended the transfer early');
        this.#settle(error ?? (this.#isInstalled ? undefined : early));
      },
    });
    this.#expectProgress(STALL_MS);
  }

  #expectProgress(withinMs: number): void {
    this.#cancelStall();
    this.#cancelStall = this.#send.timers.after(withinMs, () => {
      this.#settle(new Error(`the receiver made no progress for ${withinMs / 1_000} s`));
    });
  }

  #begin(headers: Readonly<Record<string, unknown>>): void {
    const { message, source } = this.#send;
    this.#send.check(headers).then(
      () => {
        this.#write({
          $case: 'begin',
          value: {
            message: encodeMessage(message),
            id: source.id,
            sizeBytes: BigInt(source.sizeBytes),
            sha256: Buffer.from(source.sha256),
          },
        });
      },
      (error: unknown) => this.#settle(error),
    );
  }

  #progress(bytes: Buffer): void {
    const { sizeBytes } = this.#send.source;
    let progress: SnapshotProgress;
    try {
      progress = SnapshotProgress.decode(bytes);
    } catch (error) {
      this.#settle(error);
      return;
    }
    const offset = Number(progress.offset);
    if (offset > sizeBytes || (this.#next !== undefined && offset > this.#next)) {
      this.#settle(new Error(`the receiver wants byte ${offset} of ${sizeBytes}`));
      return;
    }
    this.offset = offset;
    this.#next ??= offset;
    if (progress.installed) this.#isInstalled = true;
    this.#expectProgress(offset === sizeBytes ? INSTALL_MS : STALL_MS);
    void this.#fill();
  }

  /** Sends chunks as long as there is room, one read from disk at a time. */
  async #fill(): Promise<void> {
    const { source } = this.#send;
    if (this.#isReading) return;
    this.#isReading = true;
    try {
      while (!this.#isOver && this.#next !== undefined && this.#next < source.sizeBytes) {
        if (this.#next - this.offset >= WINDOW_BYTES) break;
        const offset = this.#next;
        const data = await source.chunk(offset);
        if (this.#isOver) return;
        this.#next = offset + data.length;
        this.#write({
          $case: 'chunk',
          value: { offset: BigInt(offset), data, crc: chunkChecksum(data) },
        });
      }
      if (this.#next === source.sizeBytes) this.#call.finish();
    } catch (error) {
      this.#settle(error);
    } finally {
      this.#isReading = false;
    }
  }

  #write(part: NonNullable<SnapshotPart['part']>): void {
    this.#call.send(SnapshotPart.encode({ part }).finish());
  }
}
