/** Takes jobs from a queue and runs them, so many at a time, within one session. */
import { bytes } from '../../../sdk/codec.ts';
import { isConclaveError } from '../../../sdk/errors.ts';
import type { RecipeContext } from '../../common/context.ts';
import { fullJitterMs, pause } from '../../common/repeat.ts';
import { QueueAttention } from '../../queue/queue-attention.ts';
import { QueueConsumer } from '../../queue/queue-consumer.ts';
import { note } from '../stderr.ts';
import { type JobSettings, runJob } from './job.ts';
import type { SignalRelay } from './signal-relay.ts';

export type LoopSettings = JobSettings & {
  readonly concurrency: number;
  readonly visibilityMs: number;
  readonly maxAttempts: number;
  /** End as soon as no job is ready. */
  readonly drain: boolean;
};

export class JobLoop {
  readonly #context: RecipeContext;
  readonly #settings: LoopSettings;
  readonly #relay: SignalRelay;
  readonly #consumer: QueueConsumer<Uint8Array>;
  readonly #attention: QueueAttention;
  /** No more claims. */
  readonly #ending = new AbortController();

  constructor(context: RecipeContext, settings: LoopSettings, relay: SignalRelay) {
    this.#context = context;
    this.#settings = settings;
    this.#relay = relay;
    this.#consumer = new QueueConsumer(context, settings.queue, {
      codec: bytes(),
      visibility: settings.visibilityMs,
      maxAttempts: settings.maxAttempts,
    });
    this.#attention = new QueueAttention(context.session.client, this.#consumer, {
      slots: settings.concurrency,
    });
  }

  /**
   * Resolves once stopped, drained, or without its session, and rejects with what no repetition can
   * change. Every command has ended and every job is settled by then: no command outlives its claim.
   */
  async run(): Promise<void> {
    const { session } = this.#context;
    const end = (): void => this.#ending.abort();
    if (this.#relay.stop.aborted || session.signal.aborted) end();
    this.#relay.stop.addEventListener('abort', end);
    session.signal.addEventListener('abort', end);
    try {
      const background = this.#attention.run(this.#ending.signal);
      const slots = Array.from({ length: this.#settings.concurrency }, () =>
        this.#slot().catch((error: unknown) => {
          end();
          throw error;
        }),
      );
      const outcomes = await Promise.allSettled(slots);
      end();
      await background;
      for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
    } finally {
      end();
      this.#relay.stop.removeEventListener('abort', end);
      session.signal.removeEventListener('abort', end);
      await this.#consumer.close();
    }
  }

  /** One job after another. */
  async #slot(): Promise<void> {
    const { signal } = this.#ending;
    const { session } = this.#context;
    const { clock, random } = session.client;
    for (let failures = 0; !signal.aborted; ) {
      const askedMs = clock.monotonicMs();
      try {
        const claim = await this.#consumer.claim(signal);
        failures = 0;
        if (claim !== null && signal.aborted) await claim.giveBack({ signal: session.signal });
        else if (claim !== null) await runJob(claim, session, askedMs, this.#settings, this.#relay);
        else if (this.#settings.drain) return;
        else await this.#attention.mayBeJob(signal);
      } catch (error) {
        if (signal.aborted) return;
        if (!isConclaveError(error) || !error.retryable) throw error;
        if (failures === 0) note(`cannot take a job: ${error.message}`);
        failures += 1;
        await pause(clock, fullJitterMs(failures, random), signal).catch(() => undefined);
      }
    }
  }
}
