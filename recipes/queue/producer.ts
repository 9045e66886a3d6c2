/**
 * The pushing side of one queue in one session: what all queue objects of that name share, so that
 * making one for each request costs nothing and keeps the order of the pushes.
 */
import type { Client } from '../../sdk/client.ts';
import {
  aborted,
  ConclaveError,
  type ErrorCode,
  invalidArgument,
  isConclaveError,
} from '../../sdk/errors.ts';
import type { RecipeContext } from '../common/context.ts';
import { fullJitterMs, mayRepeat, pause } from '../common/repeat.ts';
import { SessionKeeper, sessionClosed } from '../common/session-keeper.ts';
import { linkedSignal, unlessAborted } from '../common/signals.ts';
import { Together } from '../common/together.ts';
import type { RecipeMetrics } from '../metrics.ts';
import { type QueueKeys, queueKeys, randomId, sortableHex } from '../names.ts';
import type { JobState, ParentLink } from './job-record.ts';
import { PushAttempt, type PushedOne } from './push-attempt.ts';
import { type Lane, PushLanes } from './push-lanes.ts';
import { KnownLimits, type QueueLimits } from './queue-limits.ts';
import { QueueRoom } from './queue-room.ts';

/** A producer that has heard of a revision this recently needs no read before it pushes. */
const revisionFreshMs = 1_000;

export type Pushed = {
  readonly id: string;
  /** Whether a job with the same key was there already, or its key is remembered; nothing was added. */
  readonly duplicate: boolean;
  /** The job with the same key that this one replaced. */
  readonly replaced?: string;
};

/** A job to push; its id comes with the place in the order. */
export type NewJob = {
  readonly payload: Uint8Array;
  readonly state: JobState;
  readonly dueMs?: number | undefined;
  /** Takes the place of an unfinished job with the same key. */
  readonly replaces?: boolean;
  /** Another queue it goes to; its own queue by default. */
  readonly keys?: QueueKeys;
  /** Its parent, by its place in the list of jobs that are pushed together. */
  readonly parent?: { readonly index: number; readonly onFailure: ParentLink['onFailure'] };
};

export type PushLimits = {
  readonly signal: AbortSignal | undefined;
  readonly timeoutMs: number | undefined;
  /** 'apart': fail at once when the queue is bounded. */
  readonly whenFull: 'wait' | 'fail' | 'apart';
  /** What the caller wants all to keep to. */
  readonly agreed: KnownLimits;
  /** A key that is moved on in the same transaction, if it is as known. */
  readonly along?: Along;
};

/** One job of a caller of its own, with its id. */
type Single = {
  readonly job: NewJob;
  readonly id: string;
  readonly limits: PushLimits;
  readonly resolve: (pushed: readonly PushedOne[]) => void;
  readonly reject: (error: unknown) => void;
};

export type Along = { readonly key: string; readonly revision: bigint; readonly value: string };

/** Single jobs pushed in one transaction at most: at most two operations each, of the 128 that servers allow. */
const singlesAtOnce = 60;

/** Larger ones go alone, so that those that go together stay far below what servers take. */
const singleBytes = 4 * 1024;

const producers = new WeakMap<RecipeContext, Map<string, Producer>>();

export class Producer {
  readonly name: string;
  readonly keys: QueueKeys;
  readonly room: QueueRoom;
  readonly #metrics: RecipeMetrics;
  readonly #keeper: SessionKeeper;
  readonly #lanes: PushLanes;
  readonly #closing = new AbortController();
  readonly #unlimited: KnownLimits;
  /** Pushes that go together, by what their callers keep to. */
  readonly #together = new WeakMap<KnownLimits, Together<Single>>();
  #newestRevision = 0n;
  #heardMs = Number.NEGATIVE_INFINITY;
  #refreshing: Promise<void> | undefined;
  #sequence = 0;

  private constructor(context: RecipeContext, name: string) {
    this.name = name;
    this.#metrics = context.metrics;
    this.keys = queueKeys(name);
    this.#keeper = new SessionKeeper(context.session, 'shared');
    this.#lanes = new PushLanes(this.keys.push, randomId(this.client.random));
    this.room = new QueueRoom(this.client, this.keys);
    this.#unlimited = new KnownLimits(this.client, this.keys, undefined);
    context.background.add(this);
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

  limits(wanted: QueueLimits | undefined): KnownLimits {
    return wanted === undefined ? this.#unlimited : new KnownLimits(this.client, this.keys, wanted);
  }

  /** Ends with the session: so do pushes that wait for room, while one that is under way is answered. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#keeper.close();
  }

  /** Pushes all of them or none, once, however often it has to be repeated. */
  push(jobs: readonly NewJob[], limits: PushLimits): Promise<readonly PushedOne[]> {
    // The places in the order are taken here, before anything is awaited.
    const sequences = jobs.map(() => {
      this.#sequence = (this.#sequence + 1) % 2 ** 32;
      return this.#sequence.toString(16).padStart(8, '0');
    });
    const [job] = jobs;
    // Those that may go together with others must not overtake, nor be overtaken by, those that go alone.
    const isBounded = limits.agreed.current.capacity !== undefined;
    const ids = this.#isFresh && !isBounded ? this.#idsOf(sequences) : undefined;
    if (ids !== undefined && job !== undefined && jobs.length === 1 && maySharePush(job, limits)) {
      return new Promise((resolve, reject) => {
        const [id = ''] = ids;
        this.#sharedPushes(limits.agreed).add({ job, id, limits, resolve, reject });
      });
    }
    return this.#pushAlone(jobs, limits, async (signal) => {
      if (ids !== undefined) return ids;
      await this.#refresh(signal);
      return this.#idsOf(sequences);
    });
  }

  async #pushAlone(
    jobs: readonly NewJob[],
    limits: PushLimits,
    name: (signal: AbortSignal) => Promise<readonly string[]>,
  ): Promise<readonly PushedOne[]> {
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
        await limits.agreed.agree(ends.signal);
        const work = () => this.#untilPushed(jobs, name, lane, limits, ends.signal);
        // Those who wait for room do so in the order of their calls.
        const inTurn = limits.agreed.current.capacity !== undefined && limits.whenFull === 'wait';
        const pushing = inTurn ? () => this.room.alone(ends.signal, work) : work;
        return limits.whenFull === 'wait' ? await this.#measured(pushing) : await pushing();
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

  #sharedPushes(agreed: KnownLimits): Together<Single> {
    const known = this.#together.get(agreed);
    if (known) return known;
    const made = new Together<Single>(singlesAtOnce, (singles) => this.#pushTogether(singles));
    this.#together.set(agreed, made);
    return made;
  }

  /** Jobs of several callers in one transaction; each alone if the store refuses them together. */
  async #pushTogether(singles: readonly Single[]): Promise<void> {
    const [first] = singles;
    if (first === undefined) return;
    const alone = ({ job, id, limits, resolve, reject }: Single) =>
      this.#pushAlone([job], limits, async () => [id]).then(resolve, reject);
    if (singles.length === 1) return alone(first);
    const jobs = singles.map(({ job }) => job);
    const ids = singles.map(({ id }) => id);
    const limits: PushLimits = { ...first.limits, whenFull: 'apart' };
    try {
      const pushed = await this.#pushAlone(jobs, limits, async () => ids);
      for (const [index, { resolve }] of singles.entries()) resolve(pushed.slice(index, index + 1));
    } catch (error) {
      if (isConclaveError(error) && error.outcome === 'not-applied') {
        await Promise.all(singles.map(alone));
      } else for (const { reject } of singles) reject(error);
    }
  }

  /** Reports pushes that cannot go ahead at once because the queue is full. */
  async #measured<P>(pushing: () => Promise<P>): Promise<P> {
    const { clock } = this.client;
    const measured = { recipe: 'queue', name: this.name } as const;
    const sinceMs = clock.monotonicMs();
    const waitsBefore = this.room.waits;
    // Another waits for room already, and comes first.
    let waits = this.room.isAwaited;
    let outcome: 'acquired' | ErrorCode = 'acquired';
    try {
      return await pushing();
    } catch (error) {
      outcome = isConclaveError(error) ? error.code : 'INTERNAL';
      throw error;
    } finally {
      waits ||= this.room.waits > waitsBefore;
      if (waits) {
        this.#metrics.contended({ ...measured, kind: 'wait' });
        this.#metrics.waited({ ...measured, ms: clock.monotonicMs() - sinceMs, outcome });
      }
    }
  }

  async #untilPushed(
    jobs: readonly NewJob[],
    name: (signal: AbortSignal) => Promise<readonly string[]>,
    lane: Lane,
    { whenFull, agreed, along }: PushLimits,
    signal: AbortSignal,
  ): Promise<readonly PushedOne[]> {
    const { clock, random } = this.client;
    let attempt: PushAttempt | undefined;
    // Set once an answer was lost: from then on the jobs may be in the queue.
    let unknown = false;
    // Whether the last attempt was answered: if not, the next one tells whether anything is left to push.
    let answered = true;
    const failure = (error: unknown): unknown => {
      if (!unknown || !isConclaveError(error)) return error;
      const message = `${error.message}; the job may have been pushed`;
      return new ConclaveError(error.code, message, { cause: error, outcome: 'unknown' });
    };
    for (let failures = 0; ; failures++) {
      try {
        if (signal.aborted) throw aborted(signal);
        if (answered && this.#closing.signal.aborted) throw sessionClosed();
        if (attempt === undefined) {
          attempt = new PushAttempt(this, jobs, await name(signal), lane, agreed, along);
        }
        const { capacity } = agreed.current;
        if (answered && capacity !== undefined) {
          if (whenFull === 'apart') throw full(this.name, capacity);
          if (attempt.left > capacity) {
            throw invalidArgument(
              'jobs',
              attempt.left,
              `at most the queue's capacity, ${capacity}`,
            );
          }
          const { left } = attempt;
          if (!(await this.room.hasRoomFor(left, capacity, signal))) {
            const pushed = await attempt.recognise(signal);
            if (pushed) return pushed;
            if (attempt.left < left) continue;
            if (whenFull === 'fail') throw full(this.name, capacity);
            const waiting = linkedSignal(signal, this.#closing.signal);
            await this.room.mayHaveRoom(waiting.signal);
            waiting.unlink();
            continue;
          }
        }
        answered = false;
        const pushed = await attempt.commit(signal);
        if (pushed) return pushed;
        answered = true;
        continue;
      } catch (error) {
        if (isConclaveError(error, 'LEASE_NOT_FOUND')) {
          throw failure(
            new ConclaveError('SESSION_LOST', `Session ${lane.session.id} ended before the push`),
          );
        }
        if (isConclaveError(error, 'FULL')) throw error;
        if (!isConclaveError(error) || error.outcome !== 'not-applied') unknown = true;
        if (signal.aborted || !mayRepeat(error)) throw failure(error);
      }
      await pause(clock, fullJitterMs(failures, random), signal).catch((error: unknown) => {
        throw failure(error);
      });
    }
  }

  /** Takes note of the store's revision. */
  heard(revision: bigint): void {
    if (revision > this.#newestRevision) this.#newestRevision = revision;
    this.#heardMs = this.client.clock.monotonicMs();
  }

  /** Whether it needs no read to know where new jobs belong. */
  get #isFresh(): boolean {
    return this.client.clock.monotonicMs() - this.#heardMs <= revisionFreshMs;
  }

  async #refresh(signal: AbortSignal): Promise<void> {
    if (this.#isFresh) return;
    this.#refreshing ??= this.client.kv
      .list(this.keys.root, { keysOnly: true })
      .then(({ revision }) => this.heard(revision))
      .finally(() => {
        this.#refreshing = undefined;
      });
    // Shared by all pushes under way: none may cut it short for the others.
    await unlessAborted(this.#refreshing, signal);
  }

  #idsOf(sequences: readonly string[]): readonly string[] {
    const place = sortableHex(this.#newestRevision);
    return sequences.map((sequence) => `${place}-${sequence}-${randomId(this.client.random)}`);
  }
}

const full = (name: string, capacity: number) =>
  new ConclaveError('FULL', `Queue '${name}' holds ${capacity} jobs, as many as it may`);

/** Whether it touches no keys but its own, and is bounded by nothing of its own. */
const maySharePush = ({ payload, state, keys, parent }: NewJob, limits: PushLimits): boolean =>
  limits.signal === undefined &&
  limits.timeoutMs === undefined &&
  limits.along === undefined &&
  limits.agreed.current.capacity === undefined &&
  payload.length <= singleBytes &&
  state.dedup === undefined &&
  state.group === undefined &&
  state.isParent === undefined &&
  keys === undefined &&
  parent === undefined;
