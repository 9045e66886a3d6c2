/**
 * The pushing side of one queue in one session: what all queue objects of that name share, so that
 * making one for each request costs nothing and keeps the order of the pushes.
 */
import type { Client } from '../sdk/client.ts';
import { aborted, ConclaveError, isConclaveError } from '../sdk/errors.ts';
import { compare, op } from '../sdk/txn.ts';
import type { RecipeContext } from './context.ts';
import { waitingEntry } from './job-moves.ts';
import type { JobState } from './job-record.ts';
import { type QueueKeys, queueKeys, randomId, sortableHex } from './names.ts';
import { type Lane, PushLanes } from './push-lanes.ts';
import { fullJitterMs, mayRepeat, pause } from './repeat.ts';
import { SessionKeeper } from './session-keeper.ts';
import { linkedSignal, unlessAborted } from './signals.ts';

/** A producer that has heard of a revision this recently needs no read before it pushes. */
const revisionFreshMs = 1_000;

export type Pushed = {
  readonly id: string;
  /** Whether a job with the same key was there already; nothing was added then. */
  readonly duplicate: boolean;
};

/** A job to push; its id comes with the place in the order. */
export type NewJob = {
  readonly payload: Uint8Array;
  readonly state: JobState;
  readonly dueMs: number | undefined;
};

export type PushLimits = {
  readonly signal: AbortSignal | undefined;
  readonly timeoutMs: number | undefined;
};

const producers = new WeakMap<RecipeContext, Map<string, Producer>>();

export class Producer {
  readonly keys: QueueKeys;
  readonly #keeper: SessionKeeper;
  readonly #lanes: PushLanes;
  #newestRevision = 0n;
  #heardMs = Number.NEGATIVE_INFINITY;
  #refreshing: Promise<void> | undefined;
  #sequence = 0;

  private constructor(context: RecipeContext, name: string) {
    this.keys = queueKeys(name);
    this.#keeper = new SessionKeeper(context.session, 'shared');
    this.#lanes = new PushLanes(this.keys.push, randomId(this.client.random));
    context.background.add(this.#keeper);
  }

  static of(context: RecipeContext, name: string): Producer {
    const known = producers.get(context) ?? new Map<string, Producer>();
    producers.set(context, known);
    const producer = known.get(name) ?? new Producer(context, name);
    known.set(name, producer);
    return producer;
  }

  get client(): Client {
    return this.#keeper.client;
  }

  /** Pushes once, however often it has to be repeated. */
  async push(job: NewJob, limits: PushLimits): Promise<Pushed> {
    // The place in the order is taken here, before anything is awaited.
    this.#sequence = (this.#sequence + 1) % 2 ** 32;
    const sequence = this.#sequence.toString(16).padStart(8, '0');
    const ends = linkedSignal(limits.signal);
    const { timeoutMs } = limits;
    const tooLate = () =>
      ends.abort(new ConclaveError('TIMEOUT', `The push took longer than ${timeoutMs} ms`));
    const cancelTimeout =
      timeoutMs === undefined ? () => undefined : this.client.clock.setTimer(timeoutMs, tooLate);
    try {
      const session = await this.#keeper.live(ends.signal);
      const lane = this.#lanes.take(session);
      try {
        return await this.#untilPushed(job, sequence, lane, ends.signal);
      } finally {
        this.#lanes.giveBack(lane);
      }
    } catch (error) {
      const reason: unknown = ends.signal.reason;
      if (!isConclaveError(reason, 'TIMEOUT') || !isConclaveError(error)) throw error;
      throw new ConclaveError('TIMEOUT', reason.message, { outcome: error.outcome });
    } finally {
      cancelTimeout();
      ends.unlink();
    }
  }

  async #untilPushed(
    job: NewJob,
    sequence: string,
    lane: Lane,
    signal: AbortSignal,
  ): Promise<Pushed> {
    const { clock, random } = this.client;
    let id: string | undefined;
    // Set once an answer was lost: from then on the job may be in the queue.
    let unknown = false;
    const failure = (error: unknown): unknown => {
      if (!unknown || !isConclaveError(error)) return error;
      const message = `${error.message}; the job may have been pushed`;
      return new ConclaveError(error.code, message, { cause: error, outcome: 'unknown' });
    };
    for (let attempt = 0; ; attempt++) {
      try {
        if (signal.aborted) throw aborted(signal);
        id ??= `${sortableHex(await this.#recentRevision(signal))}-${sequence}-${randomId(random)}`;
        const pushed = await this.#attempt(id, job, lane, signal);
        if (pushed) return pushed;
        continue;
      } catch (error) {
        if (isConclaveError(error, 'LEASE_NOT_FOUND')) {
          throw failure(
            new ConclaveError('SESSION_LOST', `Session ${lane.session.id} ended before the push`),
          );
        }
        if (!isConclaveError(error) || error.outcome !== 'not-applied') unknown = true;
        if (signal.aborted || !mayRepeat(error)) throw failure(error);
      }
      await pause(clock, fullJitterMs(attempt, random), signal).catch((error: unknown) => {
        throw failure(error);
      });
    }
  }

  /** One transaction; undefined when the lane was not as remembered and the push may be repeated. */
  async #attempt(
    id: string,
    { payload, state, dueMs }: NewJob,
    lane: Lane,
    signal: AbortSignal,
  ): Promise<Pushed | undefined> {
    const { job, dedup } = this.keys;
    const dedupKey = state.dedup === undefined ? undefined : dedup + state.dedup;
    const isFree = dedupKey === undefined ? [] : [compare.createRevision(dedupKey, '==', 0n)];
    const result = await this.client.kv
      .txn()
      .if(compare.modRevision(lane.key, '==', lane.revision), ...isFree)
      .then(
        op.put(lane.key, id, { lease: lane.session.lease }),
        op.put(job + id, payload),
        waitingEntry(this.keys, id, state, dueMs),
        ...(dedupKey === undefined ? [] : [op.put(dedupKey, id)]),
      )
      .else(op.get(lane.key), op.get(dedupKey ?? lane.key))
      .commit({ signal });
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
    this.#heardMs = this.client.clock.monotonicMs();
  }

  async #recentRevision(signal: AbortSignal): Promise<bigint> {
    const { clock, kv } = this.client;
    if (clock.monotonicMs() - this.#heardMs > revisionFreshMs) {
      this.#refreshing ??= kv
        .list(this.keys.root, { keysOnly: true })
        .then(({ revision }) => this.#heard(revision))
        .finally(() => {
          this.#refreshing = undefined;
        });
      // Shared by all pushes under way: none may cut it short for the others.
      await unlessAborted(this.#refreshing, signal);
    }
    return this.#newestRevision;
  }
}

const textOf = (value: Uint8Array): string => Buffer.from(value).toString('utf8');
