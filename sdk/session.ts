/** Sessions: the public shape. */
import type { Client } from './client.ts';
import type { ConclaveError } from './errors.ts';
import type { Observable } from './observe.ts';
import type { Duration } from './options.ts';

export type SessionOptions = {
  /** How long the session outlives a process that stopped renewing it. @default '15s' */
  readonly ttl?: Duration;
  /**
   * What `assertLive()` does while renewals fail but the lease still lives: 'stop' throws
   * SESSION_SUSPENDED, 'continue' lets work go on until the deadline. @default 'continue'
   */
  readonly onSuspend?: 'stop' | 'continue';
  /** Take over the session with this lease, from this process or another. @default a new one */
  readonly id?: bigint;
  /**
   * Keep what a crashed session held out of reach of others for this much longer than its own
   * deadline, so that its last writes can land. A clean close frees at once. @default 0
   */
  readonly lockDelay?: Duration;
  /** Ends waiting for the session to open. Once open it has no effect. */
  readonly signal?: AbortSignal;
  /** What recipes show to people beside this session's keys. @default none */
  readonly meta?: Readonly<Record<string, string>>;
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
  readonly onSuspend: 'stop' | 'continue';
  readonly meta: Readonly<Record<string, string>>;
  readonly state: SessionState;
  /** Replays the last state; completes when the session is lost or closed. */
  readonly state$: Observable<SessionState>;
  /** The deadline on `client.clock.monotonicMs()`. A jump of the wall clock may end it earlier. */
  readonly validUntilMs: number;
  /** Aborts with a ConclaveError SESSION_LOST (CLOSED after `close()`). */
  readonly signal: AbortSignal;
  /** Failures in the background: renewals, releases that are being retried, a failed revoke. */
  readonly errors$: Observable<ConclaveError>;
  /** @throws ConclaveError SESSION_LOST, CLOSED, and SESSION_SUSPENDED when `onSuspend` is 'stop' */
  assertLive(): void;
  /**
   * Repeats a fenced delete in the background until it returns true or the lease is dead. What it
   * throws goes to `errors$` and counts as false.
   */
  reap(release: () => Promise<boolean>): void;
  /** Revokes the lease and with it every key of the session. Idempotent; never rejects. */
  close(): Promise<void>;
}
