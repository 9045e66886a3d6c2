/**
 * Room in a bounded queue. Every push to it compares and rewrites one key, its gate, with the number
 * of jobs as it was when the gate was last seen: since only pushes add jobs, and none came between, it
 * may have become fewer and never more. So the bound is exact, at the price that producers of a bounded
 * queue take turns at the gate. Dead letters do not count.
 */
import type { Client } from '../../sdk/client.ts';
import type { KeyValue, ListResult } from '../../sdk/kv.ts';
import { compare, op } from '../../sdk/txn.ts';
import { pause, untilAnswered } from '../common/repeat.ts';
import { linkedSignal, onAbort } from '../common/signals.ts';
import type { QueueKeys } from '../names.ts';
import { readOrder } from './stop-order.ts';

/** Where jobs are that are not finished; and one may wait in an order to stop another. */
const places = ['ready', 'claim', 'at', 'line', 'blocked'] as const;

/** The slow, jittered look that covers what a watch does not report. */
const lookEveryMs = 5_000;

/** What `read` is answered. */
export type RoomRead = { readonly responses: readonly unknown[] };

export class QueueRoom {
  readonly #client: Client;
  readonly #keys: QueueKeys;
  /** undefined until the gate was seen. */
  #gate: bigint | undefined;
  #jobs = 0;
  #seenAt = 0n;
  #line: Promise<void> = Promise.resolve();
  #waiting = 0;
  /** How many waits for room have begun. */
  waits = 0;

  constructor(client: Client, keys: QueueKeys) {
    this.#client = client;
    this.#keys = keys;
  }

  /** What tells how many jobs there are, alone or nested in another transaction; for `see`. */
  get read() {
    const keys = this.#keys;
    return this.#client.kv
      .txn()
      .then(
        op.get(keys.gate),
        op.list({ prefix: keys.cancel }),
        ...places.map((place) => op.count({ prefix: keys[place] })),
      );
  }

  /** Whether somebody waits for room now. */
  get isAwaited(): boolean {
    return this.#waiting > 0;
  }

  /** Holds while nobody else has pushed. */
  get unchanged() {
    return compare.modRevision(this.#keys.gate, '==', this.#gate ?? 0n);
  }

  /** @param added jobs that were pushed after that was read, in the same transaction */
  see({ responses }: RoomRead, added = 0): void {
    const [gate, orders, ...counts] = responses as readonly [
      KeyValue | null,
      ListResult,
      ...bigint[],
    ];
    const successors = orders.kvs.filter((order) => readOrder(order).next !== undefined);
    this.#gate = gate?.modRevision ?? 0n;
    this.#jobs = counts.reduce((jobs, count) => jobs + Number(count), successors.length + added);
  }

  /** The gate may be another by now: look before the next push. */
  doubt(): void {
    this.#gate = undefined;
  }

  /** Whether so many more jobs fit in, as far as is known; looks if nothing is known. */
  async hasRoomFor(count: number, capacity: number, signal: AbortSignal): Promise<boolean> {
    if (this.#gate === undefined || this.#jobs + count > capacity) await this.#look(signal);
    return this.#jobs + count <= capacity;
  }

  /** One after another, in the order of the calls: pushes of one process need not race. */
  async alone<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const before = this.#line;
    let leave: () => void = () => undefined;
    const left = new Promise<void>((resolve) => {
      leave = resolve;
    });
    this.#line = before.then(() => left);
    const abandoned = new Promise<void>((resolve) => onAbort(signal, resolve));
    try {
      await Promise.race([before, abandoned]);
      return await work();
    } finally {
      leave();
    }
  }

  /** Resolves when a job may have left, or after a while, or when the signal aborts. */
  async mayHaveRoom(signal: AbortSignal): Promise<void> {
    const { kv, clock, random } = this.#client;
    const { job, dead, claim } = this.#keys;
    this.#waiting += 1;
    this.waits += 1;
    const waiting = linkedSignal(signal);
    const hear = async (watch: AsyncIterable<{ readonly type: string }>) => {
      for await (const { type } of watch) if (type !== 'progress') return;
    };
    const options = { from: this.#seenAt + 1n, signal: waiting.signal };
    const wakes = [
      hear(kv.watch({ prefix: job }, { ...options, puts: false })),
      // Of jobs without a record, from before there was a bound.
      hear(kv.watch({ prefix: claim }, { ...options, puts: false })),
      hear(kv.watch({ prefix: dead }, { ...options, deletes: false })),
      pause(clock, lookEveryMs * (0.75 + 0.5 * random()), waiting.signal),
    ].map((wake) => wake.catch(() => undefined));
    await Promise.race(wakes);
    waiting.abort();
    await Promise.all(wakes);
    this.#waiting -= 1;
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { read } = this;
    const seen = await untilAnswered(this.#client, () => read.commit({ signal }), signal);
    this.see(seen);
    this.#seenAt = seen.revision;
  }
}
