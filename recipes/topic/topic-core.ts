/**
 * What all topic objects of one name in one session share: making one for each request costs nothing.
 * It outlives the session's lease: what needs one gets another when that is lost.
 */
import type { Client } from '../../sdk/client.ts';
import { ConclaveError } from '../../sdk/errors.ts';
import { EventSource } from '../../sdk/observe.ts';
import type { Background, RecipeContext } from '../common/context.ts';
import { SessionKeeper } from '../common/session-keeper.ts';
import { expectManyListeners, linkedSignal } from '../common/signals.ts';
import { noMetrics, type RecipeMetrics } from '../metrics.ts';
import { Publisher } from './publisher.ts';
import { WantedRetention } from './retention.ts';
import { scopedSession } from './scoped-session.ts';
import { type TopicKeys, topicKeys } from './topic-keys.ts';
import { idleMs, keepTrimmed, Trimmer } from './trimmer.ts';

const cores = new WeakMap<RecipeContext, Map<string, TopicCore>>();

/**
 * What the queue under a group reports: conflicts, as the topic's. Deliveries are measured as such,
 * and are not to be counted twice, nor under the name of a queue that nobody made.
 */
const underneath = (metrics: RecipeMetrics, name: string): RecipeMetrics => ({
  ...noMetrics,
  contended: ({ kind }) => metrics.contended({ recipe: 'topic', name, kind }),
});

export class TopicCore implements Background {
  readonly name: string;
  readonly keys: TopicKeys;
  readonly context: RecipeContext;
  /** Its client sees the keys of this topic only. */
  readonly scoped: RecipeContext;
  readonly keeper: SessionKeeper;
  readonly retention: WantedRetention;
  readonly trimmer: Trimmer;
  readonly publisher: Publisher;
  /** Failures in the background that are not tried again at once. */
  readonly errors = new EventSource<unknown>();
  readonly #closing = new AbortController();
  readonly #running = new Set<Promise<void>>();
  /** The shortest that was asked for. */
  trimEveryMs = Number.POSITIVE_INFINITY;
  #isKept = false;
  #readers = 0;
  #usedMs = 0;

  private constructor(context: RecipeContext, name: string) {
    this.name = name;
    this.keys = topicKeys(name);
    this.context = context;
    const session = scopedSession(context.session, this.keys.root);
    this.scoped = { ...context, session, metrics: underneath(context.metrics, name) };
    this.keeper = new SessionKeeper(context.session, 'shared');
    this.retention = new WantedRetention(this.client, this.keys);
    this.trimmer = new Trimmer(this.client, this.keys);
    this.publisher = new Publisher(this);
    expectManyListeners(this.#closing.signal);
    context.background.add(this);
  }

  /** @throws ConclaveError INVALID_ARGUMENT */
  static of(context: RecipeContext, name: string): TopicCore {
    const known = cores.get(context) ?? new Map<string, TopicCore>();
    cores.set(context, known);
    const core = known.get(name) ?? new TopicCore(context, name);
    known.set(name, core);
    return core;
  }

  get client(): Client {
    return this.context.session.client;
  }

  /** Takes part in keeping the topic trimmed, as of now and until it is idle. */
  keepTrimmed(everyMs: number): void {
    this.#usedMs = this.client.clock.monotonicMs();
    this.trimEveryMs = Math.min(this.trimEveryMs, everyMs);
    if (this.#isKept) return;
    this.#isKept = true;
    // Also for those who only ever publish in transactions of their own.
    this.run((signal) => this.retention.agree(signal));
    this.run(async (signal) => {
      while (await keepTrimmed(this, signal)) {
        // Unless it was used while that came to its end.
        if (this.isIdle) break;
      }
      this.#isKept = false;
    });
  }

  /** Whether no subscription is open here, and for a while nobody has published by it either. */
  get isIdle(): boolean {
    return this.#readers === 0 && this.client.clock.monotonicMs() - this.#usedMs >= idleMs;
  }

  /** Runs it in the background until the session is closed. */
  run(work: (signal: AbortSignal) => Promise<void>): void {
    const running = work(this.#closing.signal)
      .catch((error: unknown) => this.errors.emit(error))
      .finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  /** What is generated ends when a signal aborts or the session is closed. */
  async *untilClosed<E>(
    signals: readonly (AbortSignal | undefined)[],
    generate: (signal: AbortSignal) => AsyncGenerator<E>,
  ): AsyncGenerator<E> {
    const stop = linkedSignal(...signals, this.#closing.signal);
    this.#readers += 1;
    try {
      yield* generate(stop.signal);
    } finally {
      this.#readers -= 1;
      this.#usedMs = this.client.clock.monotonicMs();
      stop.unlink();
    }
  }

  /** Idempotent; never rejects. Consumers that are at work end when they ask for more. */
  async close(): Promise<void> {
    this.#closing.abort(new ConclaveError('CLOSED', 'The session was closed'));
    await Promise.allSettled(this.#running);
    await this.keeper.close();
    this.context.background.delete(this);
    this.errors.complete();
  }
}
