/**
 * Which leases there are and when each runs out on this member's clock.
 *
 * Only the leader acts on expiry, by proposing it; a lease ends when that is applied. Every member
 * keeps the times, so that any of them can lead. Times are the member's own monotonic milliseconds
 * and never replicated.
 *
 * Invariant: a renewal that was acknowledged is never followed by an expiry proposed before it. From
 * the moment `expired` returns a lease it cannot be renewed, until the expiry can no longer apply.
 */
import { ExpiryHeap } from './expiry-heap.ts';

export type LeaseId = bigint;

export type LeaseInfo = {
  readonly id: LeaseId;
  /** What was granted, at least the server's minimum. */
  readonly ttlSeconds: number;
  /** Not below 0, and not above what was granted, though a new leader may wait longer. */
  readonly remainingMs: number;
};

type Lease = {
  readonly id: LeaseId;
  readonly ttlSeconds: number;
  expiresAtMs: number;
  place: number;
  /** Its expiry is proposed. Such a lease is not in the heap. */
  isExpiring: boolean;
};

/**
 * After a change of leader at most this many leases expire in any second, so that renewals and other
 * writes get through between the revocations. etcd's number: three quarters of 1000.
 */
const EXPIRIES_PER_SECOND = 750;

export class Lessor {
  readonly #leases = new Map<LeaseId, Lease>();
  readonly #schedule = new ExpiryHeap<Lease>();

  get size(): number {
    return this.#leases.size;
  }

  has(id: LeaseId): boolean {
    return this.#leases.has(id);
  }

  /** The granted seconds; undefined when there is no such lease. */
  ttlSeconds(id: LeaseId): number | undefined {
    return this.#leases.get(id)?.ttlSeconds;
  }

  /** Adds a lease with its full time. The caller has checked that the id is free. */
  grant(id: LeaseId, ttlSeconds: number, nowMs: number): void {
    const lease = {
      id,
      ttlSeconds,
      expiresAtMs: nowMs + ttlSeconds * 1000,
      place: -1,
      isExpiring: false,
    };
    this.#leases.set(id, lease);
    this.#schedule.schedule(lease);
  }

  /** Forgets a lease. Returns whether it existed. */
  revoke(id: LeaseId): boolean {
    const lease = this.#leases.get(id);
    if (lease === undefined) return false;
    this.#leases.delete(id);
    this.#schedule.remove(lease);
    return true;
  }

  /** Forgets everything, before a snapshot is loaded. */
  clear(): void {
    for (const lease of this.#leases.values()) this.#schedule.remove(lease);
    this.#leases.clear();
  }

  /**
   * Gives a lease its full time again and returns it in seconds. Undefined when there is no such
   * lease or its expiry is already proposed.
   */
  renew(id: LeaseId, nowMs: number): number | undefined {
    const lease = this.#leases.get(id);
    if (lease === undefined || lease.isExpiring) return undefined;
    lease.expiresAtMs = nowMs + lease.ttlSeconds * 1000;
    this.#schedule.schedule(lease);
    return lease.ttlSeconds;
  }

  /**
   * Leases that ran out, the longest ago first, at most `max`. Each is returned once: the caller
   * proposes its expiry, or gives it back with `reoffer`.
   */
  expired(nowMs: number, max: number): readonly LeaseId[] {
    const ids: LeaseId[] = [];
    while (ids.length < max) {
      const lease = this.#schedule.first;
      if (lease === undefined || lease.expiresAtMs > nowMs) break;
      this.#schedule.remove(lease);
      lease.isExpiring = true;
      ids.push(lease.id);
    }
    return ids;
  }

  /** Undoes `expired` for a lease whose expiry was certainly not proposed. */
  reoffer(id: LeaseId): void {
    const lease = this.#leases.get(id);
    if (lease === undefined || !lease.isExpiring) return;
    lease.isExpiring = false;
    this.#schedule.schedule(lease);
  }

  /**
   * On becoming leader, once every entry of earlier terms is applied (so no earlier expiry can still
   * come): every lease gets its full time and `extraMs` more, since its holder may have renewed it
   * with the previous leader; expiries are spread when too many would fall together.
   */
  extendAll(nowMs: number, extraMs: number): void {
    for (const lease of this.#leases.values()) lease.isExpiring = false;
    this.extendRenewable(nowMs, extraMs);
  }

  /**
   * While leading, after a pause in which renewals could not be heard: as `extendAll`, but leases
   * whose expiry this leader has proposed stay lost, since that may still apply.
   */
  extendRenewable(nowMs: number, extraMs: number): void {
    const renewable: Lease[] = [];
    for (const lease of this.#leases.values()) {
      if (lease.isExpiring) continue;
      lease.expiresAtMs = nowMs + extraMs + lease.ttlSeconds * 1000;
      renewable.push(lease);
    }
    renewable.sort((a, b) => a.expiresAtMs - b.expiresAtMs);
    for (const [index, lease] of renewable.entries()) {
      const aSecondAgo = renewable[index - EXPIRIES_PER_SECOND];
      if (aSecondAgo !== undefined) {
        lease.expiresAtMs = Math.max(lease.expiresAtMs, aSecondAgo.expiresAtMs + 1000);
      }
      this.#schedule.schedule(lease);
    }
  }

  /** Undefined when there is no such lease. */
  info(id: LeaseId, nowMs: number): LeaseInfo | undefined {
    const lease = this.#leases.get(id);
    return lease && describe(lease, nowMs);
  }

  /** Milliseconds left, not below 0; undefined when there is no such lease. */
  remaining(id: LeaseId, nowMs: number): number | undefined {
    return this.info(id, nowMs)?.remainingMs;
  }

  /** All leases, the one that expires first at the front. */
  list(nowMs: number): readonly LeaseInfo[] {
    return [...this.#leases.values()]
      .sort((a, b) => a.expiresAtMs - b.expiresAtMs)
      .map((lease) => describe(lease, nowMs));
  }
}

const describe = ({ id, ttlSeconds, expiresAtMs }: Lease, nowMs: number): LeaseInfo => ({
  id,
  ttlSeconds,
  remainingMs: Math.min(Math.max(0, expiresAtMs - nowMs), ttlSeconds * 1000),
});
