/** Sessions: the public shape. */
import type { Client } from './client.ts';
import type { ConclaveError } from './errors.ts';
import type { Observable } from './observe.ts';
import type { Duration } from './options.ts';

/** A session whose renewals fail, as its policy sees it. */
export type Suspension = {
  /** Since the last renewal that succeeded was sent. */
  readonly unrenewedMs: number;
  /** Until the session is lost. */
  readonly remainingMs: number;
};

/**
 * What `assertLive()` does while a session is suspended: 'stop' throws, 'continue' lets work go on
 * until the deadline; a function decides each time anew.
 */
export type SuspendPolicy = 'stop' | 'continue' | ((suspension: Suspension) => 'stop' | 'continue');

/** Tells whether sessions may live: what is not well holds nothing. */
export type SessionHealth = {
  /** Resolves once it is well. @throws ConclaveError ABORTED by the signal */
  untilWell(signal?: AbortSignal): Promise<void>;
  /** Tells once, and why, when it is well no longer. @returns stops listening */
  onceUnwell(tell: (reason: string) => void): () => void;
};

/** What a session is opened with, and another of the same kind as well. */
export type SessionTerms = {
  /**
   * How long the session outlives a process that stopped renewing it: rounded up to whole seconds, and
   * to the least that the store grants (2 s as conclave and etcd come). `ttlMs` is what was granted.
   * @default '15s'
   */
  readonly ttl?: Duration;
  /** @default 'continue' */
  readonly onSuspend?: SuspendPolicy;
  /**
   * Keep what a crashed session held out of reach of others for this much longer than its own
   * deadline, so that its last writes can land. A clean close frees at once. @default 0
   */
  readonly lockDelay?: Duration;
  /**
   * Where renewals are sent from: 'loop', the event loop, which must not be blocked for longer than
   * the TTL; or 'thread', a worker thread with a connection of its own, which goes on renewing while
   * the event loop is blocked, for `maxBlock` at most. @default 'loop'
   */
  readonly keepAlive?: 'loop' | 'thread';
  /**
   * With `keepAlive: 'thread'`: how long the event loop may be blocked, at least '1s'. After that the
   * thread stops renewing, so that a process that is stuck for good loses its session one TTL later.
   * @default '60s'
   */
  readonly maxBlock?: Duration;
  /**
   * Opens the session once it is well, and ends it (SESSION_LOST) when it is well no longer: the lease is
   * revoked, or with a `lockDelay` left to run out. @default nothing but renewals
   */
  readonly bound?: SessionHealth;
  /** What recipes show to people beside this session's keys. @default none */
  readonly meta?: Readonly<Record<string, string>>;
};

export type SessionOptions = SessionTerms & {
  /**
   * Takes over the session with this id, or lease, from a process that is gone; its TTL stays. What
   * that process still has on its way to the store counts as this one's. @default a new session
   */
  readonly resume?: string | bigint;
  /**
   * With `resume`: how long the keys of the former process wait to be written anew, which is how they
   * are taken over (`mutex.resume` does that). Those that were not are deleted then, so that nobody
   * waits for what nobody releases. Infinity keeps them all. @default the session's TTL
   */
  readonly resumeWithin?: Duration;
  /** Ends waiting for the session to open. Once open it has no effect. */
  readonly signal?: AbortSignal;
};

/**
 * - `live`: renewed in time.
 * - `suspended`: a renewal failed or is overdue; the lease still lives. Becomes live or lost.
 * - `lost`: the lease is gone or must be assumed gone. Final.
 */
export type SessionState = 'live' | 'suspended' | 'lost';

/**
 * A lease that renews itself, and its local deadline: the time the last successful renewal was
 * *sent*, plus the TTL, less a margin. Reads of `state` look at the clock, whatever timers did, so a
 * process that was frozen past its deadline knows it at once.
 */
export interface Session extends AsyncDisposable {
  readonly client: Client;
  readonly lease: bigint;
  /** The lease in lower-case hexadecimal. */
  readonly id: string;
  readonly ttlMs: number;
  readonly onSuspend: SuspendPolicy;
  readonly meta: Readonly<Record<string, string>>;
  /** What opens another session of the same kind. */
  readonly terms: SessionTerms;
  readonly state: SessionState;
  /** Replays the last state; completes when the session is lost or closed. */
  readonly state$: Observable<SessionState>;
  /** The deadline on `client.clock.monotonicMs()`. A jump of the wall clock may end it earlier. */
  readonly validUntilMs: number;
  /** Aborts with a ConclaveError SESSION_LOST (CLOSED after `close()`). */
  readonly signal: AbortSignal;
  /** Failures in the background: renewals, releases that are being retried, a failed revoke. */
  readonly errors$: Observable<ConclaveError>;
  /** @throws ConclaveError SESSION_LOST, CLOSED, and SESSION_SUSPENDED when `onSuspend` says 'stop' */
  assertLive(): void;
  /**
   * Repeats a fenced delete in the background until it returns true or the lease is dead. What it
   * throws goes to `errors$` and counts as false.
   */
  reap(release: () => Promise<boolean>): void;
  /** Revokes the lease and with it every key of the session. Idempotent; never rejects. */
  close(): Promise<void>;
}
