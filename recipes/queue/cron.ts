/**
 * Jobs by the clock: at each slot of a pattern, one job is pushed to a queue.
 *
 * Guarantee: each slot is run at most once, whatever number of processes keep the schedule and
 * whatever crashes: the transaction that pushes a slot's job moves the schedule's one key from the slot
 * before. As long as one of the processes lives, none is left out; what becomes of slots that nobody
 * was there for is the `missed` policy.
 *
 * Time is the wall clock of the processes: the one that is ahead runs a slot, so much early.
 */

import { type Codec, json } from '../../sdk/codec.ts';
import { ConclaveError, invalidArgument, isConclaveError } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { EventSource } from '../../sdk/observe.ts';
import type { CallOptions, Duration } from '../../sdk/options.ts';
import { compare, op } from '../../sdk/txn.ts';
import type { RecipeContext } from '../common/context.ts';
import { parsePeriod } from '../common/durations.ts';
import { parseRecord } from '../common/json-record.ts';
import { checkOptions } from '../common/option-checks.ts';
import { fullJitterMs, mayRepeat, pause, untilAnswered } from '../common/repeat.ts';
import { expectManyListeners } from '../common/signals.ts';
import { eventView, type View } from '../common/view.ts';
import { cronKey, escapeName } from '../names.ts';
import { checkCall, checkCodec } from './checks.ts';
import { Producer } from './producer.ts';
import { type JobOptions, jobWithout, knownJob, newJob } from './push-options.ts';
import type { KnownLimits } from './queue-limits.ts';
import { type MissedPolicy, Schedule, type Slot } from './schedule.ts';

export type MakePayload<T> = (slot: { readonly at: Date; readonly missed: boolean }) => T;

export type CronOptions<T> = Omit<JobOptions, 'delay' | 'key' | 'keyFor'> & {
  /** Five fields, or six with seconds first, or a nickname such as '@daily'. */
  readonly pattern: string;
  /** An IANA time zone. @default 'UTC' */
  readonly tz?: string;
  /**
   * Slots that nobody ran in time: forget them ('skip'), run one job for all of them ('run-once'), or
   * one for each of the last 100 ('run-all'). @default 'run-once'
   */
  readonly missed?: MissedPolicy;
  /** A slot that is this late was missed: '10ms' or more. @default '1m' */
  readonly lateAfter?: Duration;
  /** The queue to push to. */
  readonly queue: string;
  /** The payload, or how to make it for a slot. */
  readonly data: T | MakePayload<T>;
  /** How payloads are written. @default JSON */
  readonly codec?: Codec<T>;
  /**
   * Puts this pattern, time zone, policy and queue in force if another is. Who keeps the schedule with
   * the old ones is told MISMATCH. @default false
   */
  readonly replace?: boolean;
};

export type CronEvent =
  | { readonly type: 'pushed'; readonly slot: Date; readonly missed: boolean; readonly id: string }
  /** Slots up to this one were missed, and are not or not all run. */
  | { readonly type: 'skipped'; readonly upTo: Date }
  /** Repeated, unless it is a MISMATCH: then this process keeps the schedule no more. */
  | { readonly type: 'error'; readonly error: unknown };

/** A schedule as it is stored, whoever keeps it. */
export type CronInspection = {
  readonly pattern: string;
  readonly tz: string;
  readonly missed: MissedPolicy;
  readonly queue: string;
  /** The last slot that was run or is given up; or when the schedule began, before the first. */
  readonly last: Date;
  /** The first slot after that: in the past, if nobody has run it yet. */
  readonly next: Date | undefined;
};

/** As stored: the schedule, and the last slot that is settled. */
type CronRecord = {
  readonly v: 1;
  readonly pattern: string;
  readonly tz: string;
  readonly missed: MissedPolicy;
  readonly queue: string;
  readonly lastMs: number;
};

const { delay: _delay, key: _key, keyFor: _keyFor, ...knownJobOfSlot } = knownJob;
const knownOptions = {
  ...knownJobOfSlot,
  pattern: true,
  tz: true,
  missed: true,
  lateAfter: true,
  queue: true,
  data: true,
  codec: true,
  replace: true,
} as const;

const policies: readonly MissedPolicy[] = ['skip', 'run-once', 'run-all'];
const missedMax = 100;
/** Wall clocks may be set: look at them at least this often. */
const longestSleepMs = 30_000;
/** Processes that keep the same schedule do not all push at once. */
const spreadMs = 20;

export class Cron<T> implements AsyncDisposable {
  readonly name: string;
  readonly events$: View<CronEvent>;
  readonly #context: RecipeContext;
  readonly #options: CronOptions<T>;
  readonly #jobOptions: JobOptions;
  readonly #key: string;
  readonly #schedule: Schedule;
  readonly #missed: MissedPolicy;
  readonly #lateAfterMs: number;
  readonly #producer: Producer;
  readonly #limits: KnownLimits;
  readonly #events = new EventSource<CronEvent>();
  readonly #closing = new AbortController();
  #running: Promise<void> = Promise.resolve();
  #known: { readonly revision: bigint; readonly record: CronRecord } | undefined;

  private constructor(context: RecipeContext, name: string, options: CronOptions<T>) {
    checkOptions<CronOptions<T>>(options, knownOptions);
    const { pattern, tz = 'UTC', missed = 'run-once', lateAfter = '1m', queue } = options;
    checkCodec(options.codec);
    this.name = name;
    this.#key = cronKey(name);
    this.#schedule = new Schedule(pattern, tz);
    if (!policies.includes(missed)) {
      throw invalidArgument('missed', missed, "'skip', 'run-once' or 'run-all'");
    }
    escapeName(queue, 'queue');
    const { maxAttempts, priority, group, attemptTimeout } = options;
    this.#jobOptions = {
      ...(maxAttempts === undefined ? {} : { maxAttempts }),
      ...(priority === undefined ? {} : { priority }),
      ...(group === undefined ? {} : { group }),
      ...(attemptTimeout === undefined ? {} : { attemptTimeout }),
    };
    // Refused now rather than at each slot.
    jobWithout(this.#jobOptions, 0);
    this.#missed = missed;
    this.#lateAfterMs = parsePeriod(lateAfter, 'lateAfter');
    this.#context = context;
    this.#options = options;
    this.#producer = Producer.of(context, queue);
    this.#limits = this.#producer.limits(undefined);
    this.events$ = eventView(this.#events.observable);
    expectManyListeners(this.#closing.signal);
  }

  /**
   * Keeps a schedule until it is closed. A new schedule begins now: slots before are not missed.
   *
   * @throws ConclaveError INVALID_ARGUMENT; MISMATCH when the schedule is stored with another pattern,
   *   time zone, policy or queue
   */
  static async start<T>(
    context: RecipeContext,
    name: string,
    options: CronOptions<T>,
  ): Promise<Cron<T>> {
    const cron = new Cron<T>(context, name, options);
    await cron.#agree();
    context.background.add(cron);
    cron.#running = cron.#run();
    return cron;
  }

  /** The next slot after now. */
  get next(): Date | undefined {
    const ms = this.#schedule.after(this.#context.session.client.clock.wallMs());
    return ms === undefined ? undefined : new Date(ms);
  }

  /**
   * The schedule as it is stored; null if somebody has removed it. One exchange.
   *
   * @throws ConclaveError INVALID_ARGUMENT when what is stored is no schedule, UNREACHABLE, TIMEOUT,
   *   ABORTED
   */
  async inspect(options: CallOptions = {}): Promise<CronInspection | null> {
    checkCall(options);
    const found = await this.#context.session.client.kv.get(this.#key, options);
    const record = found && readRecord(found);
    if (!record) return null;
    const { pattern, tz, missed, queue, lastMs } = record;
    const nextMs = new Schedule(pattern, tz).after(lastMs);
    const next = nextMs === undefined ? undefined : new Date(nextMs);
    return { pattern, tz, missed, queue, last: new Date(lastMs), next };
  }

  /** Ends this process's part; the schedule stays for others. Idempotent; never rejects. */
  async close(): Promise<void> {
    this.#closing.abort(new ConclaveError('CLOSED', 'The schedule was closed'));
    await this.#running;
    this.#context.background.delete(this);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  get #measured() {
    return { recipe: 'cron', name: this.name } as const;
  }

  /** Stores the schedule, or finds that it is stored. */
  async #agree(): Promise<void> {
    const { client } = this.#context.session;
    const { pattern, tz = 'UTC', queue, replace = false } = this.#options;
    const { signal } = this.#closing;
    const wanted = { v: 1, pattern, tz, missed: this.#missed, queue } as const;
    let found = await untilAnswered(client, () => client.kv.get(this.#key, { signal }), signal);
    for (;;) {
      const stored = found && readRecord(found);
      if (found && stored && isSame(stored, wanted)) {
        this.#known = { revision: found.modRevision, record: stored };
        return;
      }
      if (stored && !replace) throw mismatch(this.name, stored);
      const record: CronRecord = { ...wanted, lastMs: stored?.lastMs ?? client.clock.wallMs() };
      const txn = client.kv
        .txn()
        .if(compare.modRevision(this.#key, '==', found?.modRevision ?? 0n))
        .then(op.put(this.#key, JSON.stringify(record)))
        .else(op.get(this.#key));
      const result = await untilAnswered(client, () => txn.commit({ signal }), signal);
      if (result.succeeded) {
        this.#known = { revision: result.revision, record };
        return;
      }
      found = result.responses[0] ?? null;
    }
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    const { clock, random } = this.#context.session.client;
    for (let failures = 0; !signal.aborted; ) {
      try {
        const known = this.#known ?? (await this.#read());
        await this.#runDue(known);
        failures = 0;
        const nowMs = clock.wallMs();
        const nextMs = this.#schedule.after(nowMs) ?? Number.POSITIVE_INFINITY;
        await pause(clock, Math.min(longestSleepMs, nextMs - nowMs + random() * spreadMs), signal);
      } catch (error) {
        this.#known = undefined;
        // Another process has run the slot.
        if (isConclaveError(error, 'CONFLICT')) {
          this.#context.metrics.contended({ ...this.#measured, kind: 'conflict' });
          continue;
        }
        if (signal.aborted || isConclaveError(error, 'CLOSED')) break;
        this.#events.emit({ type: 'error', error });
        if (isConclaveError(error, 'MISMATCH')) {
          this.#context.metrics.lost({ ...this.#measured, reason: error.code });
          break;
        }
        failures += 1;
        const longestMs = mayRepeat(error) ? 1_000 : longestSleepMs;
        const delayMs = fullJitterMs(failures, random, 100, longestMs);
        await pause(clock, delayMs, signal).catch(() => undefined);
      }
    }
    this.#events.complete();
  }

  async #read() {
    const { client } = this.#context.session;
    const { signal } = this.#closing;
    const found = await untilAnswered(client, () => client.kv.get(this.#key, { signal }), signal);
    const record = found && readRecord(found);
    const { pattern, tz = 'UTC', queue } = this.#options;
    if (!found || !record) {
      await this.#agree();
    } else if (isSame(record, { pattern, tz, missed: this.#missed, queue })) {
      this.#known = { revision: found.modRevision, record };
    } else throw mismatch(this.name, record);
    return this.#known;
  }

  async #runDue(known: { readonly revision: bigint; readonly record: CronRecord } | undefined) {
    if (known === undefined) return;
    const { clock } = this.#context.session.client;
    const limits = { lateAfterMs: this.#lateAfterMs, atMost: missedMax };
    const plan = this.#schedule.plan(known.record.lastMs, clock.wallMs(), this.#missed, limits);
    if (plan === undefined) return;
    for (const slot of plan.runs) await this.#push(slot);
    if (plan.runs.length === 0) await this.#skip(plan.upToMs);
    if (plan.skipped) this.#events.emit({ type: 'skipped', upTo: new Date(plan.upToMs) });
  }

  /** Pushes the slot's job and settles the slot. @throws ConclaveError CONFLICT when another has */
  async #push(slot: Slot): Promise<void> {
    const { clock } = this.#context.session.client;
    const { data, codec = json<T>() } = this.#options;
    const at = new Date(slot.atMs);
    const { missed } = slot;
    const payload = isMaker(data) ? data({ at, missed }) : data;
    const job = newJob(payload, codec, this.#jobOptions, clock.wallMs());
    const along = this.#moved(slot.atMs);
    const [pushed] = await this.#producer.push([job], {
      signal: this.#closing.signal,
      timeoutMs: undefined,
      whenFull: 'wait',
      agreed: this.#limits,
      along,
    });
    const lateMs = Math.max(0, clock.wallMs() - slot.atMs);
    this.#context.metrics.waited({ ...this.#measured, ms: lateMs, outcome: 'acquired' });
    // The next one needs the key's new revision, which the push does not tell.
    await this.#read();
    if (pushed) this.#events.emit({ type: 'pushed', slot: at, missed, id: pushed.id });
  }

  async #skip(upToMs: number): Promise<void> {
    const { client } = this.#context.session;
    const { signal } = this.#closing;
    const { key, revision, value } = this.#moved(upToMs);
    const txn = client.kv
      .txn()
      .if(compare.modRevision(key, '==', revision))
      .then(op.put(key, value));
    await untilAnswered(client, () => txn.commit({ signal }), signal);
    await this.#read();
  }

  /** The schedule's key, moved on from where it is known to be. */
  #moved(lastMs: number) {
    if (this.#known === undefined) {
      throw new ConclaveError('CONFLICT', 'The schedule has moved', { retryable: false });
    }
    const { revision, record } = this.#known;
    if (record.lastMs >= lastMs) {
      throw new ConclaveError('CONFLICT', 'The slot was run before', { retryable: false });
    }
    return { key: this.#key, revision, value: JSON.stringify({ ...record, lastMs }) };
  }
}

const isMaker = <T>(data: T | MakePayload<T>): data is MakePayload<T> => typeof data === 'function';

const isSame = (
  one: Pick<CronRecord, 'pattern' | 'tz' | 'missed' | 'queue'>,
  other: Pick<CronRecord, 'pattern' | 'tz' | 'missed' | 'queue'>,
): boolean =>
  one.pattern === other.pattern &&
  one.tz === other.tz &&
  one.missed === other.missed &&
  one.queue === other.queue;

function readRecord(kv: KeyValue): CronRecord | undefined {
  const record = parseRecord(kv);
  return 'lastMs' in record ? (record as CronRecord) : undefined;
}

function mismatch(name: string, { pattern, tz, missed, queue }: CronRecord): ConclaveError {
  const stored = JSON.stringify({ pattern, tz, missed, queue });
  return new ConclaveError('MISMATCH', `The schedule '${name}' is stored as ${stored}`, {
    remedy: "Use the same options everywhere, or put these in force with 'replace'.",
  });
}
