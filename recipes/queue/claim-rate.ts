/**
 * How fast jobs of a queue may be claimed, over all workers: a GCRA (`gcra.ts`) whose one number is
 * moved by the very transaction that claims. Time is the wall clock of whoever claims: with clocks that
 * disagree by s, a window may hold so many more jobs as the rate gives in s. A claim that was lost to
 * another worker may be charged, too.
 */
import type { Client } from '../../sdk/client.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { type Compare, compare, type Operation, op } from '../../sdk/txn.ts';
import type { QueueKeys } from '../names.ts';
import { judge, type Rate } from '../rate/gcra.ts';
import { decodeRate, encodeRate } from '../rate/rate-record.ts';

export type Charge = {
  readonly condition: Compare;
  readonly operation: Operation;
  /** To be told of the revision at which it was written. */
  readonly wrote: (revision: bigint) => void;
};

export class ClaimRate {
  readonly #client: Client;
  readonly #key: string;
  #revision = 0n;
  #tatMs = 0;

  constructor(client: Client, keys: QueueKeys) {
    this.#client = client;
    this.#key = keys.rate;
  }

  /** How many of so many jobs may be claimed now, as far as is known. Others may have claimed since. */
  permits(rate: Rate, count: number): number {
    const nowMs = this.#client.clock.wallMs();
    let allowed = Math.min(count, rate.burst);
    while (allowed > 0 && !judge(rate, this.#tatMs, nowMs, allowed).allowed) allowed -= 1;
    return allowed;
  }

  /** How long until the next may be claimed; 0 when one may. */
  waitMs(rate: Rate): number {
    const nowMs = this.#client.clock.wallMs();
    const verdict = judge(rate, this.#tatMs, nowMs, 1);
    return verdict.allowed ? 0 : verdict.atMs - nowMs;
  }

  /** The part of a transaction that takes permits, if the state is as known. */
  take(rate: Rate, count: number, by: string): Charge {
    const verdict = judge(rate, this.#tatMs, this.#client.clock.wallMs(), count);
    const tatMs = verdict.allowed ? verdict.tatMs : this.#tatMs;
    return {
      condition: compare.modRevision(this.#key, '==', this.#revision),
      operation: op.put(this.#key, encodeRate({ ...rate, tatMs, by })),
      wrote: (revision) => {
        if (revision < this.#revision) return;
        this.#revision = revision;
        this.#tatMs = tatMs;
      },
    };
  }

  get read() {
    return op.get(this.#key);
  }

  /** Takes note of the stored state; null when there is none. */
  see(kv: KeyValue | null): void {
    this.#revision = kv?.modRevision ?? 0n;
    this.#tatMs = (kv && decodeRate(kv)?.tatMs) ?? 0;
  }
}
