/** Leases: keys that live no longer than somebody keeps saying so. The public shape. */
import type { CallOptions, Duration } from './options.ts';

export type LeaseGrant = {
  readonly id: bigint;
  /** What the server granted: whole seconds, and at least its minimum. */
  readonly ttlMs: number;
};

export type LeaseRenewal = {
  /** Time left from now on; 0 when the lease is gone. */
  readonly ttlMs: number;
};

export type LeaseInfo = {
  readonly id: bigint;
  /** Time left. */
  readonly ttlMs: number;
  readonly grantedTtlMs: number;
  /** The attached keys, when asked for. */
  readonly keys: readonly Uint8Array[];
};

/** Prefer a session: it renews its lease and knows when it is lost. */
export interface Leases {
  /**
   * @param ttl rounded up to whole seconds
   * @param options.id a positive id of the caller's choice. @default a random one, so that a lost
   *   answer can be recognised and the call be repeated safely
   * @throws ConclaveError LEASE_EXISTS
   */
  grant(ttl: Duration, options?: CallOptions & { readonly id?: bigint }): Promise<LeaseGrant>;
  /** Ends the lease and deletes its keys. @throws ConclaveError LEASE_NOT_FOUND */
  revoke(id: bigint, options?: CallOptions): Promise<void>;
  /** Renews once. Renewals that are asked for in one go, without a signal, share calls to the server. */
  keepAlive(id: bigint, options?: CallOptions): Promise<LeaseRenewal>;
  /** null when the lease is gone. Keys are as stored, a namespace's prefix included. */
  timeToLive(
    id: bigint,
    options?: CallOptions & { readonly keys?: boolean },
  ): Promise<LeaseInfo | null>;
  list(options?: CallOptions): Promise<readonly bigint[]>;
}
