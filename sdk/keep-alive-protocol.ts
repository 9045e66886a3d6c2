/** What the program and its keep-alive thread say to each other. */
import type { ConnectOptions } from './client.ts';
import type { Endpoint } from './endpoints.ts';
import type { ErrorCode } from './errors.ts';
import type { RetryPolicy } from './retry.ts';

/** What it takes to make a connection like the client's in another thread. */
export type ThreadConnection = Pick<ConnectOptions, 'tls' | 'transport'> & {
  readonly endpoints: readonly Endpoint[];
  readonly requestTimeoutMs: number;
  readonly retry: RetryPolicy;
};

export type ThreadData = {
  readonly connection: ThreadConnection;
  /** Of a `PulseCell`. */
  readonly pulse: SharedArrayBuffer;
};

/** From the program. */
export type ThreadOrder =
  | {
      readonly type: 'keep';
      readonly number: number;
      readonly lease: bigint;
      readonly ttlMs: number;
      /** How long ago the lease was granted or renewed. */
      readonly ageMs: number;
      readonly lockDelayMs: number;
      readonly maxBlockMs: number;
      /** Of `LeaseCells`. */
      readonly cells: SharedArrayBuffer;
    }
  | { readonly type: 'leave'; readonly number: number };

/** From the thread: something has changed in the cells of this lease. */
export type ThreadNews = {
  readonly number: number;
  readonly failure?: { readonly code: ErrorCode; readonly message: string } | undefined;
};
