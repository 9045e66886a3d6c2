/**
 * Renewals that are asked for in one go travel together: a call for each of thousands would cost both
 * sides more than the renewals do.
 */
import type { Connection } from './connection.ts';
import { judge } from './failures.ts';
import type { LeaseRenewal } from './lease.ts';
import type { Link } from './link.ts';
import { isUnimplemented, TransportFailure } from './transport.ts';

/** What a server takes in one call. */
const renewalsPerCall = 1_024;

type Waiter = {
  readonly resolve: (renewal: LeaseRenewal) => void;
  readonly reject: (error: unknown) => void;
};

type Group = {
  readonly timeoutMs: number;
  readonly deadlineMs: number;
  readonly ids: bigint[];
  /** In the order of the ids. */
  readonly waiters: Waiter[];
};

export class LeaseRenewals {
  readonly #connection: Connection;
  /** Takes renewals until whoever asks for them lets go. */
  #open: Group | undefined;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  renew(id: bigint, timeoutMs: number): Promise<LeaseRenewal> {
    return new Promise((resolve, reject) => {
      const group = this.#groupFor(timeoutMs);
      group.ids.push(id);
      group.waiters.push({ resolve, reject });
    });
  }

  /** One lease, with all that a call does about failures. */
  async renewAlone(
    id: bigint,
    options: { readonly timeoutMs?: number | undefined; readonly signal?: AbortSignal | undefined },
  ): Promise<LeaseRenewal> {
    const { TTL } = await this.#connection.call('leaseKeepAlive', { ID: id }, options);
    return renewalOf(TTL);
  }

  #groupFor(timeoutMs: number): Group {
    const open = this.#open;
    if (open?.timeoutMs === timeoutMs && open.ids.length < renewalsPerCall) return open;
    const deadlineMs = this.#connection.clock.monotonicMs() + timeoutMs;
    const group: Group = { timeoutMs, deadlineMs, ids: [], waiters: [] };
    this.#open = group;
    queueMicrotask(() => {
      if (this.#open === group) this.#open = undefined;
      this.#send(group);
    });
    return group;
  }

  #send(group: Group): void {
    const link = this.#connection.active;
    if (group.ids.length === 1 || link === undefined || link.withoutGroups) this.#renewEach(group);
    else void this.#renewTogether(group, link);
  }

  async #renewTogether(group: Group, link: Link): Promise<void> {
    const { ids, waiters, timeoutMs } = group;
    try {
      const options = { timeoutMs, movable: true };
      const { ttlSeconds } = await link.unary('leaseKeepAliveMany', { ids }, options);
      if (ttlSeconds.length !== ids.length) this.#renewEach(group);
      else
        for (const [index, { resolve }] of waiters.entries()) resolve(renewalOf(ttlSeconds[index]));
    } catch (failure) {
      if (failure instanceof TransportFailure) {
        if (failure.kind === 'unnumbered' || isUnimplemented(failure)) link.withoutGroups = true;
        if (failure.kind === 'timeout') {
          for (const { reject } of waiters) reject(judge(failure, 'read').error);
          return;
        }
      }
      this.#renewEach(group);
    }
  }

  #renewEach({ ids, waiters, deadlineMs }: Group): void {
    const timeoutMs = Math.max(0, deadlineMs - this.#connection.clock.monotonicMs());
    for (const [index, { resolve, reject }] of waiters.entries())
      this.renewAlone(ids[index] ?? 0n, { timeoutMs }).then(resolve, reject);
  }
}

const renewalOf = (ttlSeconds: bigint | undefined): LeaseRenewal => ({
  ttlMs: Math.max(0, Number(ttlSeconds ?? 0n) * 1_000),
});
