/** The way in: the public shape of a client. */
import type { Clock } from './clock.ts';
import type { ClusterApi } from './cluster.ts';
import type { ConclaveError } from './errors.ts';
import type { Kv } from './kv.ts';
import type { Leases } from './lease.ts';
import type { Observable } from './observe.ts';
import type { Duration } from './options.ts';
import type { Session, SessionOptions } from './session.ts';

/**
 * How often and how fast calls are repeated: reads, writes that certainly had no effect, and writes that
 * the server applies once however often they come. The first repetition follows at once.
 */
export type RetryOptions = {
  /** Repetitions after the first one. @default Infinity: as long as the time of the call allows */
  readonly retries?: number;
  /**
   * The wait before the second repetition; doubles each time, with jitter, but stays below a quarter of
   * the time that the trouble has lasted. @default '10ms'
   */
  readonly minDelay?: Duration;
  /** @default '1s' */
  readonly maxDelay?: Duration;
};

export type TlsOptions = {
  /** Certificates of the authorities to trust, in PEM. @default the system's */
  readonly ca?: Uint8Array | string;
  /** The client's certificate chain, in PEM. */
  readonly cert?: Uint8Array | string;
  /** Its private key, in PEM. */
  readonly key?: Uint8Array | string;
};

/** The part of a pino-like logger that is used. */
export type Logger = {
  debug(details: object, message: string): void;
  warn(details: object, message: string): void;
};

export type ConnectOptions = {
  /** 'host:2379,host:2379', or a list of 'host:port', 'http://host:port' or 'unix:/path'. */
  readonly endpoints?: string | readonly string[];
  /** Where the embedded store lives, when there are no endpoints. @default './.conclave' */
  readonly directory?: string;
  /** Put before every key. @default '' */
  readonly namespace?: string;
  /** How long `connect` may take. @default '10s' */
  readonly connectTimeout?: Duration;
  /** How long a call may take when it names no timeout of its own, retries included. @default '10s' */
  readonly requestTimeout?: Duration;
  readonly retry?: RetryOptions;
  /** 'auto' puts calls into batches where the server can, else one call per request. @default 'auto' */
  readonly transport?: 'auto' | 'unary' | 'batch';
  /** For https endpoints. @default the system's authorities, no client certificate */
  readonly tls?: TlsOptions;
  /** Ends waiting for the connection. Once open it has no effect. */
  readonly signal?: AbortSignal;
  /** @default silent */
  readonly logger?: Logger;
  /** All time there is for the client and what is made from it. @default the system's */
  readonly clock?: Clock;
  /** Uniform in [0, 1); for jitter and ids. @default the system's cryptographic source */
  readonly random?: () => number;
};

export type ClientEvent =
  | { readonly type: 'connected'; readonly endpoint: string }
  | { readonly type: 'disconnected'; readonly endpoint: string; readonly error?: ConclaveError }
  /** From now on another endpoint is used. */
  | { readonly type: 'endpoint'; readonly endpoint: string };

/**
 * A connection to a store. Everything made from it (sessions, watches, namespaces) ends with it.
 */
export interface Client extends AsyncDisposable {
  readonly kv: Kv;
  readonly leases: Leases;
  readonly cluster: ClusterApi;
  readonly clock: Clock;
  readonly random: () => number;
  /** What happens to the connection; completes on close. */
  readonly events$: Observable<ClientEvent>;
  /**
   * Opens a session, or takes one over with `resume`.
   *
   * @throws ConclaveError SESSION_LOST when the session to resume is gone
   */
  session(options?: SessionOptions): Promise<Session>;
  /** The same connection, with all keys under `prefix`. Closing it closes nothing. */
  namespace(prefix: string): Client;
  /** Closes sessions (revoking their leases), watches and connections. Idempotent; never rejects. */
  close(): Promise<void>;
}
