/**
 * Keys that outlive their jobs: the key of a job that was done stays taken for a while, under a lease
 * that nobody renews. That it has a lease is what tells it from the key of an unfinished job.
 */
import type { Client } from '../../sdk/client.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { ResultLease } from '../common/result-lease.ts';

/** By client and time: all jobs that are done within a period share a lease. */
const shared = new WeakMap<Client, Map<number, ResultLease>>();

/** A key is remembered for at most a tenth longer than it was asked for, or a second. */
const periodOf = (keyForMs: number): number => Math.max(1_000, keyForMs / 10);

export function keyMemory(client: Client, keyForMs: number): ResultLease {
  const leases = shared.get(client) ?? new Map<number, ResultLease>();
  shared.set(client, leases);
  const lease = leases.get(keyForMs) ?? new ResultLease(client, keyForMs, periodOf(keyForMs));
  leases.set(keyForMs, lease);
  return lease;
}

/** Whether the job that has the key is done, and its key remembered. */
export const isRemembered = ({ lease }: Pick<KeyValue, 'lease'>): boolean => lease !== 0n;
