/**
 * A durable work queue: the producer's side. Workers are in `worker.ts`.
 *
 * Guarantee: a pushed job is handled at least once and acknowledged exactly once; it is never lost,
 * whatever crashes. A handler may run twice (its worker froze, say), so let its effects be
 * idempotent, or fence them by the claim's token.
 *
 * Order: a job's id starts with a store revision that the producer knew when it pushed, so no
 * counter is contended. Jobs that are pushed in one session are offered in the order of the calls.
 * Between producers the order is that of the store to within one second: a job may be offered before
 * another that was pushed earlier only if the two pushes were less than that apart. Jobs that come
 * back (retries, delays) keep their place, so the oldest are offered first. Workers that compete for
 * the same job move on to one of the next few.
 *
 * Payloads live in the store's memory and log: keep them small (kilobytes) and refer to the rest.
 */
import type { Client } from '../sdk/client.ts';
import { type Codec, decodeWith, encodeWith, json } from '../sdk/codec.ts';
import { invalidArgument } from '../sdk/errors.ts';
import { type CallOptions, type Duration, parseDuration } from '../sdk/options.ts';
import { op } from '../sdk/txn.ts';
import type { RecipeContext } from './context.ts';
import { DeadLetters } from './dead-letters.ts';
import { type JobState, readJobState } from './job-record.ts';
import { escapeName, type QueueKeys } from './names.ts';
import { Producer, type Pushed } from './producer.ts';

export type QueueOptions<T> = {
  /** How payloads are written. @default JSON */
  readonly codec?: Codec<T>;
};

export type PushOptions = CallOptions & {
  /** Not before this much later, by the wall clocks of producer and workers. @default now */
  readonly delay?: Duration;
  /** While an unfinished job with this key exists, pushing another returns that one. */
  readonly key?: string;
  /** Overrides the workers' own limit. */
  readonly maxAttempts?: number;
};

export type QueueStats = {
  readonly ready: number;
  readonly delayed: number;
  /** Claimed by workers. */
  readonly active: number;
  readonly dead: number;
  readonly workers: number;
};

export type QueuedJob<T> = {
  readonly id: string;
  /** Decoded at each look. @throws ConclaveError CODEC when the payload cannot be read */
  readonly data: T;
  readonly attempts: number;
  readonly pushedAt: Date;
  readonly lastError?: string;
};

export class Queue<T> {
  readonly name: string;
  /** Jobs that ran out of attempts. */
  readonly dead: DeadLetters<T>;
  readonly #client: Client;
  readonly #keys: QueueKeys;
  readonly #codec: Codec<T>;
  readonly #producer: Producer;

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(context: RecipeContext, name: string, options: QueueOptions<T> = {}) {
    this.name = name;
    this.#client = context.session.client;
    this.#codec = options.codec ?? json<T>();
    this.#producer = Producer.of(context, name);
    this.#keys = this.#producer.keys;
    this.dead = new DeadLetters(this.#client, this.#keys, this.#codec);
  }

  /**
   * Adds a job. One exchange; two after a second without any. Repeated until the store answers, and
   * applied exactly once.
   *
   * @throws ConclaveError INVALID_ARGUMENT, CODEC, TOO_LARGE, NO_SPACE, and ABORTED, TIMEOUT,
   *   SESSION_LOST with `outcome` 'unknown' when an answer was lost
   */
  async push(data: T, options: PushOptions = {}): Promise<Pushed> {
    const { delay, key, maxAttempts, signal, timeout } = options;
    const delayMs = delay === undefined ? 0 : parseDuration(delay, 'delay');
    if (maxAttempts !== undefined && !(Number.isInteger(maxAttempts) && maxAttempts > 0)) {
      throw invalidArgument('maxAttempts', maxAttempts, 'a whole number of at least 1');
    }
    const dedup = key === undefined ? undefined : escapeName(key, 'key');
    const payload = encodeWith(this.#codec, data);
    const nowMs = this.#client.clock.wallMs();
    const state: JobState = {
      v: 1,
      attempts: 0,
      pushedMs: nowMs,
      ...(maxAttempts === undefined ? {} : { maxAttempts }),
      ...(dedup === undefined ? {} : { dedup }),
    };
    const dueMs = delayMs === 0 ? undefined : nowMs + delayMs;
    const timeoutMs = timeout === undefined ? undefined : parseDuration(timeout, 'timeout');
    return this.#producer.push({ payload, state, dueMs }, { signal, timeoutMs });
  }

  /** How many jobs are where. One exchange. */
  async stats(options: CallOptions = {}): Promise<QueueStats> {
    const { ready, at, claim, dead, worker } = this.#keys;
    const { responses } = await this.#client.kv
      .txn()
      .then(
        op.count({ prefix: ready }),
        op.count({ prefix: at }),
        op.count({ prefix: claim }),
        op.count({ prefix: dead }),
        op.count({ prefix: worker }),
      )
      .commit(options);
    const [readyCount, delayed, active, deadCount, workers] = responses.map(Number);
    return {
      ready: readyCount ?? 0,
      delayed: delayed ?? 0,
      active: active ?? 0,
      dead: deadCount ?? 0,
      workers: workers ?? 0,
    };
  }

  /**
   * The next jobs in order, without claiming them. Two exchanges.
   *
   * @param limit 1 to 100
   */
  async peek(limit = 1, options: CallOptions = {}): Promise<readonly QueuedJob<T>[]> {
    if (!(Number.isInteger(limit) && limit >= 1 && limit <= 100)) {
      throw invalidArgument('limit', limit, 'a whole number from 1 to 100');
    }
    const { kv } = this.#client;
    const { ready, job } = this.#keys;
    const codec = this.#codec;
    const listed = await kv.list({ prefix: ready }, { ...options, limit });
    if (listed.kvs.length === 0) return [];
    const ids = listed.kvs.map((entry) => entry.key.slice(ready.length));
    const payloads = await kv
      .txn()
      .then(...ids.map((id) => op.get(job + id)))
      .commit(options);
    return listed.kvs.flatMap((entry, index) => {
      const payload = payloads.responses[index];
      const id = ids[index];
      if (!payload || id === undefined) return [];
      const state = readJobState(entry);
      return [
        {
          id,
          get data() {
            return decodeWith(codec, payload.value, payload.key);
          },
          attempts: state.attempts,
          pushedAt: new Date(state.pushedMs),
          ...(state.error === undefined ? {} : { lastError: state.error }),
        },
      ];
    });
  }

  /**
   * What the handler of a finished job returned; undefined while there is nothing, and again once
   * the workers' `keepResults` time is over.
   *
   * @param codec how the worker wrote it. @default JSON
   */
  async result<R>(
    id: string,
    codec: Codec<R> = json<R>(),
    options: CallOptions = {},
  ): Promise<R | undefined> {
    const kv = await this.#client.kv.get(this.#keys.result + id, options);
    return kv === null ? undefined : decodeWith(codec, kv.value, kv.key);
  }
}
