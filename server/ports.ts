/**
 * What the replica needs from the world. Each port has one conformance suite in `test/ports`,
 * run against every implementation.
 */
import type { Bytes } from './mvcc/types.ts';
import type { Entry, HardState } from './raft/message.ts';
import type { ReceivedSnapshot } from './storage/transfer.ts';

export interface Clock {
  /** Monotonic milliseconds; the origin is arbitrary. */
  nowMs(): number;
  /** Wall clock milliseconds since the epoch, for people to read, never for decisions. */
  wallMs(): number;
}

/** What happens later, so that a simulator can decide when that is. */
export interface Timers {
  /** Runs once after the delay, unless the function returned is called before. */
  after(delayMs: number, run: () => void): () => void;
  /** Runs again and again until the function returned is called. */
  every(intervalMs: number, run: () => void): () => void;
  /** Runs in the next turn: when everything that is due already has run. */
  soon(run: () => void): void;
}

export interface Random {
  /** Uniform in [0, bound), an integer. */
  below(bound: number): number;
  /** A positive 63-bit number. */
  id(): bigint;
}

export type Write =
  | { readonly kind: 'put'; readonly key: Bytes; readonly value: Bytes }
  | { readonly kind: 'remove'; readonly key: Bytes };

/** One step of counting: how many entries were there, and where the next step begins. */
export type Counted = {
  readonly count: number;
  /** All before it are counted. undefined: there are no more. */
  readonly next: Bytes | undefined;
};

/** A sorted map of byte strings, any length, ordered as unsigned bytes. */
export interface StateReader {
  get(key: Bytes): Bytes | undefined;
  /**
   * Entries with start <= key < end, at most `limit`, ascending, or descending from the end with
   * `reverse`. `end` undefined is open. Returns a copy: later writes do not show in it.
   */
  scan(
    start: Bytes,
    end: Bytes | undefined,
    options: { readonly limit: number; readonly reverse?: boolean },
  ): readonly (readonly [key: Bytes, value: Bytes])[];
  /**
   * Counts entries with start <= key < end without reading them, about `step` of them at a time: more
   * or fewer where that is cheaper.
   */
  count(start: Bytes, end: Bytes | undefined, step: number): Counted;
}

/** A place in the log: an entry, and the term in which its leader made it. {0, 0} is before the first. */
export type LogPosition = { readonly index: number; readonly term: number };

/**
 * The state machine's storage.
 *
 * Invariant: the writes of one `apply` and its applied position become durable together or not at
 * all, and in order. After a restart `applied` names the last one that survived; the log replays the
 * rest.
 */
export interface State extends StateReader {
  /** The entry whose writes are visible to reads. Term 0: written before terms were kept. */
  readonly applied: LogPosition;
  /** `applied.index`. */
  readonly appliedIndex: number;
  /** The index whose writes are durable: the log up to here is no longer needed for recovery. */
  readonly durableIndex: number;
  /**
   * Visible to reads at once, durable later, in order. `index` is not below `appliedIndex`; it equals
   * it for writes that no entry asked for, such as removing compacted garbage. `term` is that of the
   * entry; without it the one before stays. The state keeps the values as they are: nobody may change
   * them any more. Keys may be reused.
   */
  apply(index: number, writes: readonly Write[], term?: number): void;
  /**
   * Replaces everything by what another member sent: after a crash at any moment the state is
   * entirely the old one or entirely the new one. Durable when it resolves; `flush` calls that
   * waited resolve too, and a copy under way is finished from the old contents. The snapshot is used
   * up either way.
   *
   * Until it settles the caller applies nothing and reads nothing; what was read before stays valid.
   * `Log.reset` must follow: between the two only this installation explains a state ahead of its log.
   *
   * Rejects with `SnapshotTransferError` when the contents are not what was announced, and with
   * `NoSpaceError`; then the old state is as it was.
   */
  install(snapshot: ReceivedSnapshot): Promise<void>;
  /** Resolves once everything applied so far is durable. */
  flush(): Promise<void>;
  /** Bytes applied but not yet durable: the caller slows down above `limits.overlayBytes`. */
  readonly backlogBytes: number;
  /** Bytes on disk, and how many of them hold live data. */
  size(): { readonly totalBytes: number; readonly usedBytes: number };
  /** Flushes and closes. */
  close(): Promise<void>;
}

/** The replicated log on disk. */
export interface Log {
  /**
   * Makes the hard state and the entries durable, in one flush. Entries that begin at or below the
   * last index replace the tail from there (Raft section 5.3). Calls may not overlap: the caller
   * groups. A rejection is final: the log refuses everything after it.
   *
   * `mayBlock`: the caller has nothing else to do meanwhile, so that a log whose disk is quick may write
   * before it returns instead of going through another thread. @default false
   */
  append(
    batch: { readonly hardState?: HardState; readonly entries: readonly Entry[] },
    mayBlock?: boolean,
  ): Promise<void>;
  /** Entries from..to inclusive, cut at `maxBytes` but at least one. Throws when released. */
  entries(from: number, to: number, maxBytes: number): Promise<readonly Entry[]>;
  /** Entries up to `index` are no longer needed; files holding only those go. */
  release(index: number): Promise<void>;
  /**
   * Restarts the log behind a state that was installed. When the log holds the entry at
   * `position.index` with that term, it keeps everything (Raft section 7, rule 6); otherwise it is
   * empty afterwards and begins after `position`. After a crash at any moment the log is entirely the
   * old one or entirely the new one. Must not overlap with `append`; a rejection is final.
   */
  reset(position: LogPosition, hardState: HardState): Promise<void>;
  close(): Promise<void>;
}

/**
 * Which life of each other member was seen: a member whose data directory was wiped comes back with
 * another incarnation under the same id, has forgotten what it promised, and must be refused.
 */
export interface PeerBook {
  /** The incarnation that is durably remembered. */
  known(member: bigint): bigint | undefined;
  /**
   * Durable when it resolves: only then may a message of that member be trusted. Rejects with
   * `IncarnationError` when another incarnation is known already.
   */
  remember(member: bigint, incarnation: bigint): Promise<void>;
}

/** What a log held when it was opened. */
export type Recovered = {
  readonly hardState: HardState;
  /** The entry before the first kept one: {0, 0} for a log from the beginning. */
  readonly start: LogPosition;
  readonly entries: readonly Entry[];
};

/** A copy of the whole state, as it was at the moment of the call. */
export type StateCopy = {
  /** Exactly the sum of the chunks. */
  readonly sizeBytes: number;
  readonly chunks: AsyncIterable<Uint8Array>;
};
