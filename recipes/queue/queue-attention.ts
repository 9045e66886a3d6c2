/**
 * What keeps a worker's slots busy: watches that tell of new jobs, of dead workers and of delays, and
 * sweeps that act on them. A slow sweep and a fresh listing cover what a watch did not report.
 */
import type { Client } from '../../sdk/client.ts';
import type { WatchNotice } from '../../sdk/watch.ts';
import { Bell } from '../common/bell.ts';
import { fullJitterMs, pause } from '../common/repeat.ts';
import type { QueueConsumer } from './queue-consumer.ts';
import type { Swept } from './sweep.ts';

export type AttentionOptions = {
  /** How many wait for jobs at a time at most. */
  readonly slots: number;
  /** @default half the visibility, at most 15000 */
  readonly sweepEveryMs?: number | undefined;
  /** Hears of each sweep. */
  readonly onSwept?: (swept: Swept) => void;
  /** Hears of jobs that are ordered to stop. */
  readonly onOrder?: (id: string) => void;
  /** Hears of each failed sweep; the next does what it left undone. */
  readonly onError?: (error: unknown) => void;
};

const longestSweepMs = 15_000;
/** Workers that hear of the same thing do not all sweep at once. */
const sweepSpreadMs = 20;

export class QueueAttention {
  readonly #client: Client;
  readonly #consumer: QueueConsumer<unknown>;
  readonly #options: AttentionOptions;
  readonly #sweepEveryMs: number;
  readonly #jobs: Bell;
  readonly #chores = new Bell(1);

  constructor(client: Client, consumer: QueueConsumer<unknown>, options: AttentionOptions) {
    this.#client = client;
    this.#consumer = consumer;
    this.#options = options;
    this.#sweepEveryMs =
      options.sweepEveryMs ?? Math.min(longestSweepMs, consumer.visibilityMs / 2);
    this.#jobs = new Bell(options.slots);
  }

  /** Watches and sweeps until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { kv } = this.#client;
    const { worker, at, cancel } = this.#consumer.keys;
    const { onOrder, onError } = this.#options;
    const tellOrders = (notice: WatchNotice) => {
      if (notice.type === 'progress') return;
      const kvs = notice.type === 'reset' ? notice.kvs : notice.events.map(({ kv }) => kv);
      for (const { key } of kvs) onOrder?.(key.slice(cancel.length));
    };
    const ring = () => this.#chores.ring();
    await Promise.all([
      this.#sweep(signal),
      this.#consumer.window.follow(signal, (count) => this.#jobs.ring(count)),
      // A worker that is gone, or a new delay that may be the next to end.
      this.#hear(signal, () => kv.watch({ prefix: worker }, { puts: false, signal }), ring),
      this.#hear(signal, () => kv.watch({ prefix: at }, { deletes: false, signal }), ring),
      this.#hear(
        signal,
        () => kv.watch({ prefix: cancel }, { deletes: false, signal }),
        tellOrders,
      ),
      this.#consumer.slots.follow(signal, () => this.#ringForSlot()).catch(onError),
    ]);
  }

  /** Resolves when there may be a job, or when the signal aborts. */
  async mayBeJob(signal: AbortSignal): Promise<void> {
    const { pausedMs } = this.#consumer;
    const cancel =
      pausedMs === 0
        ? () => undefined
        : this.#client.clock.setTimer(pausedMs, () => this.#jobs.ring());
    await this.#jobs.heard(signal);
    cancel();
  }

  /** Sweeps soon, without waiting for a watch or for its time. */
  sweepSoon(): void {
    this.#chores.ring();
  }

  /** A slot is free: workers do not all reach for it at once, and who comes late sees it taken. */
  #ringForSlot(): void {
    const { clock, random } = this.#client;
    clock.setTimer(random() * sweepSpreadMs, () => this.#jobs.ring());
  }

  async #hear(
    signal: AbortSignal,
    open: () => AsyncIterable<WatchNotice>,
    tell: (notice: WatchNotice) => void,
  ): Promise<void> {
    const { clock, random } = this.#client;
    for (let attempt = 0; !signal.aborted; attempt++) {
      try {
        for await (const notice of open()) {
          attempt = 0;
          tell(notice);
        }
      } catch {
        // The slow sweep covers what a broken watch does not report.
      }
      await pause(clock, fullJitterMs(attempt, random), signal).catch(() => undefined);
    }
  }

  async #sweep(signal: AbortSignal): Promise<void> {
    const { clock, random } = this.#client;
    const { slots, onSwept, onError } = this.#options;
    while (!signal.aborted) {
      let nextMs = this.#sweepEveryMs * (0.75 + 0.5 * random());
      try {
        const swept = await this.#consumer.sweep(signal);
        onSwept?.(swept);
        if (swept.nextDueInMs !== undefined) nextMs = Math.min(nextMs, swept.nextDueInMs);
      } catch (error) {
        if (signal.aborted) return;
        onError?.(error);
      }
      // The slow re-read: what the watch of ready jobs has missed shows now.
      this.#jobs.ring(slots);
      const cancel = clock.setTimer(Math.max(1, nextMs), () => this.#chores.ring());
      await this.#chores.heard(signal);
      cancel();
      await pause(clock, random() * sweepSpreadMs, signal).catch(() => undefined);
    }
  }
}
