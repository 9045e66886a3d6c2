/**
 * What keeps a worker's slots busy: watches that tell of new jobs, of dead workers and of delays, and
 * sweeps that act on them. A slow sweep and a fresh listing cover what a watch did not report.
 */
import type { Client } from '../sdk/client.ts';
import { Bell } from './bell.ts';
import type { QueueConsumer } from './queue-consumer.ts';
import { fullJitterMs, pause } from './repeat.ts';
import type { Swept } from './sweep.ts';

export type AttentionOptions = {
  /** How many wait for jobs at a time at most. */
  readonly slots: number;
  /** @default half the visibility, at most 15000 */
  readonly sweepEveryMs?: number | undefined;
  /** Hears of each sweep. */
  readonly onSwept?: (swept: Swept) => void;
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
    const { worker, at } = this.#consumer.keys;
    await Promise.all([
      this.#sweep(signal),
      this.#consumer.window.follow(signal, (count) => this.#jobs.ring(count)),
      // A worker that is gone, or a new delay that may be the next to end.
      this.#ringOn(signal, () => kv.watch({ prefix: worker }, { puts: false, signal })),
      this.#ringOn(signal, () => kv.watch({ prefix: at }, { deletes: false, signal })),
    ]);
  }

  /** Resolves when there may be a job, or when the signal aborts. */
  mayBeJob(signal: AbortSignal): Promise<void> {
    return this.#jobs.heard(signal);
  }

  /** Sweeps soon, without waiting for a watch or for its time. */
  sweepSoon(): void {
    this.#chores.ring();
  }

  async #ringOn(signal: AbortSignal, open: () => AsyncIterable<unknown>): Promise<void> {
    const { clock, random } = this.#client;
    for (let attempt = 0; !signal.aborted; attempt++) {
      try {
        for await (const _notice of open()) {
          attempt = 0;
          this.#chores.ring();
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
