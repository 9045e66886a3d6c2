/**
 * A durable work queue: the producer's side. Workers are in `worker.ts`.
 *
 * Guarantee: a pushed job is handled at least once and acknowledged exactly once; it is never lost,
 * whatever crashes. A handler may run twice (its worker froze, say), so let its effects be
 * idempotent, or fence them by the claim's token.
 *
 * Order: a job's id starts with a store revision that the producer knew when it pushed, so no
 * counter is contended. Jobs that one queue object pushes are offered in the order of the calls.
 * Between producers the order is that of the store to within one second: a job may be offered before
 * another that was pushed earlier only if the two pushes were less than that apart. Jobs that come
 * back (retries, delays) keep their place, so the oldest are offered first. Workers that compete for
 * the same job move on to one of the next few.
 *
 * Payloads live in the store's memory and log: keep them small (kilobytes) and refer to the rest.
 */
import { type Codec, decodeWith, encodeWith, json } from '../sdk/codec.ts';
import { aborted, ConclaveError, invalidArgument, isConclaveError } from '../sdk/errors.ts';
import { type CallOptions, type Duration, parseDuration } from '../sdk/options.ts';
import { compare, op } from '../sdk/txn.ts';
import type { RecipeContext } from './context.ts';
import { DeadLetters } from './dead-letters.ts';
import { waitingEntry } from './job-moves.ts';
import { type JobState, readJobState } from './job-record.ts';
import { escapeName, type QueueKeys, queueKeys, randomId, sortableHex } from './names.ts';
import { type Lane, PushLanes } from './push-lanes.ts';
import { fullJitterMs, mayRepeat, pause } from './retry.ts';
import { SessionKeeper } from './session-keeper.ts';

/** A producer that has heard of a revision this recently needs no read before it pushes. */
const revisionFreshMs = 1_000;

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

export type Pushed = {
  readonly id: string;
  /** Whether a job with the same key was there already; nothing was added then. */
  readonly duplicate: boolean;
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
  readonly data: T;
  readonly attempts: number;
  readonly pushedAt: Date;
  readonly lastError?: string;
};

type Push = {
  readonly id: string;
  readonly payload: Uint8Array;
  readonly state: JobState;
  readonly dueMs: number | undefined;
};

export class Queue<T> {
  readonly name: string;
  /** Jobs that ran out of attempts. */
  readonly dead: DeadLetters<T>;
  readonly #keys: QueueKeys;
  readonly #codec: Codec<T>;
  readonly #keeper: SessionKeeper;
  readonly #lanes: PushLanes;
  #newestRevision = 0n;
  #heardMs = Number.NEGATIVE_INFINITY;
  #refreshing: Promise<void> | undefined;
  #sequence = 0;

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(context: RecipeContext, name: string, options: QueueOptions<T> = {}) {
    const { client } = context.session;
    this.name = name;
    this.#keys = queueKeys(name);
    this.#codec = options.codec ?? json<T>();
    this.#keeper = new SessionKeeper(context.session, 'shared');
    this.#lanes = new PushLanes(this.#keys.push, randomId(client.random));
    this.dead = new DeadLetters(client, this.#keys, this.#codec);
    context.background.add(this.#keeper);
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
    const { client } = this.#keeper;
    const delayMs = delay === undefined ? 0 : parseDuration(delay, 'delay');
    if (maxAttempts !== undefined && !(Number.isInteger(maxAttempts) && maxAttempts > 0)) {
      throw invalidArgument('maxAttempts', maxAttempts, 'a whole number of at least 1');
    }
    const dedup = key === undefined ? undefined : escapeName(key, 'key');
    const payload = encodeWith(this.#codec, data);
    // The place in the order of this object's pushes is taken here, before anything is awaited.
    this.#sequence = (this.#sequence + 1) % 2 ** 32;
    const sequence = this.#sequence;
    const session = await this.#keeper.live(signal);
    const revision = await this.#recentRevision();
    const nowMs = client.clock.wallMs();
    const order = `${sortableHex(revision)}-${sequence.toString(16).padStart(8, '0')}`;
    const push: Push = {
      id: `${order}-${randomId(client.random)}`,
      payload,
      state: {
        v: 1,
        attempts: 0,
        pushedMs: nowMs,
        ...(maxAttempts === undefined ? {} : { maxAttempts }),
        ...(dedup === undefined ? {} : { dedup }),
      },
      dueMs: delayMs === 0 ? undefined : nowMs + delayMs,
    };
    const deadlineMs =
      timeout === undefined
        ? Number.POSITIVE_INFINITY
        : client.clock.monotonicMs() + parseDuration(timeout, 'timeout');
    const lane = this.#lanes.take(session);
    try {
      return await this.#push(push, lane, deadlineMs, signal);
    } finally {
      this.#lanes.giveBack(lane);
    }
  }

  /** How many jobs are where. One exchange. */
  async stats(options: CallOptions = {}): Promise<QueueStats> {
    const { ready, at, claim, dead, worker } = this.#keys;
    const { responses } = await this.#keeper.client.kv
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
    const { kv } = this.#keeper.client;
    const { ready, job } = this.#keys;
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
          data: decodeWith(this.#codec, payload.value, payload.key),
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
    const kv = await this.#keeper.client.kv.get(this.#keys.result + id, options);
    return kv === null ? undefined : decodeWith(codec, kv.value, kv.key);
  }

  async #push(
    push: Push,
    lane: Lane,
    deadlineMs: number,
    signal: AbortSignal | undefined,
  ): Promise<Pushed> {
    const { client } = this.#keeper;
    // Set once an answer was lost: from then on the job may be in the queue.
    let unknown = false;
    const failure = (error: unknown): unknown => {
      if (!unknown || !isConclaveError(error)) return error;
      const message = `${error.message}; the job may have been pushed`;
      return new ConclaveError(error.code, message, { cause: error, outcome: 'unknown' });
    };
    for (let attempt = 0; ; attempt++) {
      try {
        if (signal?.aborted) throw aborted(signal);
        const timeoutMs = deadlineMs - client.clock.monotonicMs();
        if (timeoutMs <= 0) {
          throw new ConclaveError('TIMEOUT', 'The push took longer than its timeout');
        }
        const limits = Number.isFinite(timeoutMs) ? { timeout: timeoutMs } : {};
        const pushed = await this.#attempt(push, lane, { ...limits, ...(signal && { signal }) });
        if (pushed) return pushed;
        continue;
      } catch (error) {
        if (isConclaveError(error, 'LEASE_NOT_FOUND')) {
          throw failure(
            new ConclaveError('SESSION_LOST', `Session ${lane.session.id} ended before the push`),
          );
        }
        if (!isConclaveError(error) || error.outcome !== 'not-applied') unknown = true;
        if (signal?.aborted || !mayRepeat(error)) throw failure(error);
      }
      await pause(client.clock, fullJitterMs(attempt, client.random), signal).catch(
        (error: unknown) => {
          throw failure(error);
        },
      );
    }
  }

  /** One transaction; undefined when the lane was not as remembered and the push may be repeated. */
  async #attempt(push: Push, lane: Lane, options: CallOptions): Promise<Pushed | undefined> {
    const { kv } = this.#keeper.client;
    const { id, state, payload, dueMs } = push;
    const dedupKey = state.dedup === undefined ? undefined : this.#keys.dedup + state.dedup;
    const isFree = dedupKey === undefined ? [] : [compare.createRevision(dedupKey, '==', 0n)];
    const result = await kv
      .txn()
      .if(compare.modRevision(lane.key, '==', lane.revision), ...isFree)
      .then(
        op.put(lane.key, id, { lease: lane.session.lease }),
        op.put(this.#keys.job + id, payload),
        waitingEntry(this.#keys, id, state, dueMs),
        ...(dedupKey === undefined ? [] : [op.put(dedupKey, id)]),
      )
      .else(op.get(lane.key), op.get(dedupKey ?? lane.key))
      .commit(options);
    this.#heard(result.revision);
    if (result.succeeded) {
      lane.revision = result.revision;
      return { id, duplicate: false };
    }
    const [inLane, occupant] = result.responses;
    lane.revision = inLane?.modRevision ?? 0n;
    if (inLane && textOf(inLane.value) === id) return { id, duplicate: false };
    if (dedupKey !== undefined && occupant) return { id: textOf(occupant.value), duplicate: true };
    return undefined;
  }

  #heard(revision: bigint): void {
    if (revision > this.#newestRevision) this.#newestRevision = revision;
    this.#heardMs = this.#keeper.client.clock.monotonicMs();
  }

  async #recentRevision(): Promise<bigint> {
    const { clock, kv } = this.#keeper.client;
    if (clock.monotonicMs() - this.#heardMs > revisionFreshMs) {
      this.#refreshing ??= kv
        .list(this.#keys.root, { keysOnly: true })
        .then(({ revision }) => this.#heard(revision))
        .finally(() => {
          this.#refreshing = undefined;
        });
      await this.#refreshing;
    }
    return this.#newestRevision;
  }
}

const textOf = (value: Uint8Array): string => Buffer.from(value).toString('utf8');
