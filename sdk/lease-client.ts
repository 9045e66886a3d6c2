/** Leases over a connection. */
import type { Connection } from './connection.ts';
import { invalidArgument, isConclaveError } from './errors.ts';
import type { LeaseGrant, LeaseInfo, LeaseRenewal, Leases } from './lease.ts';
import { LeaseRenewals } from './lease-renewals.ts';
import { type CallOptions, type Duration, parseDuration, parseTimeout } from './options.ts';
import { promised } from './promised.ts';
import { randomId63 } from './random.ts';

export class LeaseClient implements Leases {
  readonly #connection: Connection;
  readonly #renewals: LeaseRenewals;

  constructor(connection: Connection) {
    this.#connection = connection;
    this.#renewals = new LeaseRenewals(connection);
  }

  async grant(
    ttl: Duration,
    options: CallOptions & { readonly id?: bigint } = {},
  ): Promise<LeaseGrant> {
    const ttlMs = parseDuration(ttl, 'ttl');
    if (ttlMs <= 0) throw invalidArgument('ttl', ttl, 'more than 0');
    const id = options.id ?? randomId63(this.#connection.random);
    if (typeof id !== 'bigint' || id < 1n || id > longestId) {
      throw invalidArgument('id', id, 'a bigint from 1n to 2n ** 63n - 1n');
    }
    let repeated = false;
    try {
      const response = await this.#connection.call(
        'leaseGrant',
        { ID: id, TTL: BigInt(Math.ceil(ttlMs / 1_000)) },
        {
          signal: options.signal,
          timeoutMs: parseTimeout(options),
          onAmbiguous: () => {
            repeated = true;
          },
        },
      );
      return { id, ttlMs: Number(response.TTL) * 1_000 };
    } catch (error) {
      // Nobody else draws our random id: an attempt whose answer was lost has granted it.
      const granted =
        repeated && options.id === undefined && isConclaveError(error, 'LEASE_EXISTS');
      if (!granted) throw error;
      const { ttlMs: grantedMs } = await this.keepAlive(id, options);
      if (grantedMs <= 0) throw error;
      return { id, ttlMs: grantedMs };
    }
  }

  async revoke(id: bigint, options: CallOptions = {}): Promise<void> {
    let repeated = false;
    try {
      await this.#connection.call(
        'leaseRevoke',
        { ID: id },
        {
          signal: options.signal,
          timeoutMs: parseTimeout(options),
          onAmbiguous: () => {
            repeated = true;
          },
        },
      );
    } catch (error) {
      // An earlier attempt whose answer was lost has done it.
      if (!(repeated && isConclaveError(error, 'LEASE_NOT_FOUND'))) throw error;
    }
  }

  keepAlive(id: bigint, options: CallOptions = {}): Promise<LeaseRenewal> {
    return promised(() => {
      const timeoutMs = parseTimeout(options) ?? this.#connection.requestTimeoutMs;
      const { signal } = options;
      if (signal !== undefined) return this.#renewals.renewAlone(id, { timeoutMs, signal });
      return this.#renewals.renew(id, timeoutMs);
    });
  }

  async timeToLive(
    id: bigint,
    options: CallOptions & { readonly keys?: boolean } = {},
  ): Promise<LeaseInfo | null> {
    const response = await this.#connection.call(
      'leaseTimeToLive',
      { ID: id, keys: options.keys ?? false },
      { signal: options.signal, timeoutMs: parseTimeout(options) },
    );
    if (response.TTL < 0n) return null;
    return {
      id,
      ttlMs: Number(response.TTL) * 1_000,
      grantedTtlMs: Number(response.grantedTTL) * 1_000,
      keys: response.keys,
    };
  }

  async list(options: CallOptions = {}): Promise<readonly bigint[]> {
    const response = await this.#connection.call(
      'leaseLeases',
      {},
      { signal: options.signal, timeoutMs: parseTimeout(options) },
    );
    return response.leases.map(({ ID }) => ID);
  }
}

const longestId = 2n ** 63n - 1n;
