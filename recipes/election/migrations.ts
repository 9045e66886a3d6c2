/**
 * Migrations: an ordered list of steps, each run once, by one process at a time.
 *
 * Whoever is first in a line runs those that are left, in order, and records each in the store; all
 * others wait until everything is recorded. Every record is written under the condition that its writer
 * is still first in line. A step that only writes to the store does so in the transaction that records
 * it: exactly once. A step with other effects is recorded before and after: at least once, and an
 * attempt that did not end is seen by whoever comes next.
 */
import {
  ConclaveError,
  invalidArgument,
  isConclaveError,
  throwIfAborted,
} from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { type Duration, parseDuration } from '../../sdk/options.ts';
import type { RecipeContext } from '../common/context.ts';
import { parsePeriod } from '../common/durations.ts';
import { observePrefix } from '../common/observed-prefix.ts';
import { checkOptions, type Known } from '../common/option-checks.ts';
import { type PrefixView, viewPrefix } from '../common/prefix-view.ts';
import { untilAnswered } from '../common/repeat.ts';
import { sessionClosed } from '../common/session-keeper.ts';
import { linkedSignal } from '../common/signals.ts';
import type { View } from '../common/view.ts';
import { type Holding, waitForHold } from '../line/holding.ts';
import { encodeLineRecord, inLineOrder, type LineEntry, lineEntry } from '../line/line-record.ts';
import { migrationsPrefix, randomId } from '../names.ts';
import { planOf } from './migration-plan.ts';
import {
  type MigrationStatus,
  type Planned,
  pendingStatus,
  type Recorded,
  recordsOf,
  statusOf,
  stepKey,
} from './migration-record.ts';
import { type Migration, MigrationRunner } from './migration-run.ts';

export type MigrationsOptions = {
  /** How often a process that waits reads its place again, whatever watches say. @default '15s' */
  readonly recheck?: Duration;
};

export type MigrateOptions = {
  /** Gives up: rejects with ABORTED. A step that this process runs is asked to stop, and waited for. */
  readonly signal?: AbortSignal;
  /**
   * How long to wait for others to be done, and for a store that does not answer, before a step of its
   * own begins: rejects with TIMEOUT. @default no limit
   */
  readonly timeout?: Duration;
};

/** How long a call waits for what is not its own step, on the client's monotonic clock; for ever if empty. */
type Patience = { readonly timeoutMs?: number; readonly untilMs?: number };

const knownRun: Known<MigrateOptions> = { signal: true, timeout: true };

export type Migrated = {
  /** Ids of the steps that this call ran, in order. */
  readonly ran: readonly string[];
};

export type MigrationsState = {
  /** In order: each of this client's list, as recorded or pending; then what others have recorded more. */
  readonly steps: readonly MigrationStatus[];
  /** Who runs them, if anybody does, and who would next. */
  readonly runner: LineEntry | null;
  readonly waiting: readonly LineEntry[];
};

export class Migrations {
  readonly name: string;
  /** As `inspect()`; each change. */
  readonly state$: View<MigrationsState>;
  readonly #context: RecipeContext;
  readonly #list: readonly Migration[];
  readonly #plan: readonly Planned[];
  readonly #prefix: string;
  readonly #steps: string;
  readonly #recheckMs: number | undefined;

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(
    context: RecipeContext,
    name: string,
    list: readonly Migration[],
    options: MigrationsOptions = {},
  ) {
    checkOptions(options, { recheck: true });
    this.name = name;
    this.#context = context;
    this.#prefix = migrationsPrefix(name);
    this.#steps = `${this.#prefix}step/`;
    this.#plan = planOf(list);
    this.#list = [...list];
    if (options.recheck !== undefined) this.#recheckMs = parsePeriod(options.recheck, 'recheck');
    const { client } = context.session;
    const prefix = this.#prefix;
    const show = (kvs: Iterable<KeyValue>) => this.#show(kvs);
    this.state$ = observePrefix(client, prefix, show);
  }

  /**
   * Returns when every migration of the list has run, here or elsewhere. One exchange when that was so
   * before; otherwise two to become the one who runs them, one for each step that writes, two for each
   * other, and one to end.
   *
   * @throws ConclaveError MISMATCH when the store has others, or others in their places;
   *   FAILED_PRECONDITION when one was interrupted that is not idempotent; TIMEOUT, ABORTED,
   *   SESSION_LOST, LEADERSHIP_LOST; and whatever a migration throws
   */
  async run(options: MigrateOptions = {}): Promise<Migrated> {
    checkOptions(options, knownRun);
    throwIfAborted(options.signal);
    const patience = this.#patienceOf(options);
    const { session } = this.#context;
    session.assertLive();
    const seen = await this.#read(patience, options.signal);
    if (this.#isDone(seen.entries.values())) return { ran: [] };
    return this.#inTheLead(options.signal, patience, seen, (holding, stop) =>
      this.#runAll(holding, patience, stop),
    );
  }

  /**
   * Settles a migration that was interrupted: 'done' counts it as run, 'again' as never begun. For
   * people who have looked at what it did. Waits for whoever is first in line.
   *
   * @throws ConclaveError NOT_FOUND when there is no such record; FAILED_PRECONDITION when it is done;
   *   as `run` otherwise
   */
  async resolve(id: string, how: 'done' | 'again', options: MigrateOptions = {}): Promise<void> {
    if (how !== 'done' && how !== 'again') throw invalidArgument('how', how, "'done' or 'again'");
    checkOptions(options, knownRun);
    throwIfAborted(options.signal);
    const patience = this.#patienceOf(options);
    await this.#inTheLead(options.signal, patience, undefined, async (holding, stop) => {
      const runner = new MigrationRunner(this.name, holding, stop);
      await this.#within(patience, stop, (limit) => this.#settle(runner, limit, id, how));
      return { ran: [] };
    });
  }

  /** What ran, when and by whom; what runs; and who waits. One exchange. */
  async inspect(): Promise<MigrationsState> {
    const { kvs } = await this.#context.session.client.kv.list({ prefix: this.#prefix });
    return this.#show(kvs);
  }

  #show(kvs: Iterable<KeyValue>): MigrationsState {
    const steps: KeyValue[] = [];
    const line: KeyValue[] = [];
    for (const kv of kvs) (kv.key.startsWith(this.#steps) ? steps : line).push(kv);
    const [runner = null, ...waiting] = inLineOrder(line).map(lineEntry);
    steps.sort((a, b) => (a.key < b.key ? -1 : 1));
    const recorded = new Map(steps.map((kv) => [kv.key, kv]));
    const planned = this.#plan.map((plan, place) => {
      const key = stepKey(this.#steps, place);
      const kv = recorded.get(key);
      recorded.delete(key);
      return kv ? statusOf(kv, plan.id, runner?.key) : pendingStatus(plan);
    });
    // Those that only others know of.
    const more = [...recorded.values()].map((kv) =>
      statusOf(kv, kv.key.slice(this.#steps.length), runner?.key),
    );
    return { steps: [...planned, ...more], runner, waiting };
  }

  /** @throws ConclaveError INVALID_ARGUMENT */
  #patienceOf({ timeout }: MigrateOptions): Patience {
    if (timeout === undefined) return {};
    const timeoutMs = parseDuration(timeout, 'timeout');
    return { timeoutMs, untilMs: this.#context.session.client.clock.monotonicMs() + timeoutMs };
  }

  #leftMs({ untilMs }: Patience): number | undefined {
    if (untilMs === undefined) return undefined;
    return Math.max(0, untilMs - this.#context.session.client.clock.monotonicMs());
  }

  /** Makes a call that ends with the patience, the signal or the session. */
  async #within<R>(
    patience: Patience,
    stop: AbortSignal | undefined,
    call: (limit: AbortSignal) => Promise<R>,
  ): Promise<R> {
    const { client, signal: life } = this.#context.session;
    const limit = linkedSignal(stop, life);
    let late: ConclaveError | undefined;
    const leftMs = this.#leftMs(patience);
    const cancel =
      leftMs !== undefined &&
      client.clock.setTimer(leftMs, () => {
        late = this.#late(patience);
        limit.abort(late);
      });
    try {
      return await call(limit.signal);
    } catch (error) {
      if (!isConclaveError(error, 'ABORTED') || stop?.aborted) throw error;
      if (late) throw this.#late(patience, error);
      throw life.aborted ? life.reason : error;
    } finally {
      if (cancel) cancel();
      limit.unlink();
    }
  }

  #late({ timeoutMs }: Patience, cause?: ConclaveError): ConclaveError {
    const message = `The migrations '${this.name}' were not done within ${timeoutMs} ms`;
    return new ConclaveError('TIMEOUT', message, { cause });
  }

  #read(patience: Patience, stop: AbortSignal | undefined): Promise<PrefixView> {
    const { client } = this.#context.session;
    return this.#within(patience, stop, async (signal) => {
      const list = () => client.kv.list({ prefix: this.#steps }, { signal });
      const { kvs, revision } = await untilAnswered(client, list, signal);
      return { revision, entries: new Map(kvs.map((kv) => [kv.key, kv])) };
    });
  }

  /** @throws ConclaveError MISMATCH */
  #records(entries: Iterable<KeyValue>): readonly Recorded[] {
    return recordsOf(this.name, this.#steps, this.#plan, entries);
  }

  #isDone(entries: Iterable<KeyValue>): boolean {
    const records = this.#records(entries);
    return this.#plan.every((_, place) => records[place]?.record.state === 'done');
  }

  async #runAll(holding: Holding, patience: Patience, stop: AbortSignal): Promise<Migrated> {
    const records = this.#records((await this.#read(patience, stop)).entries.values());
    const runner = new MigrationRunner(this.name, holding, stop);
    const ran: string[] = [];
    for (const [place, migration] of this.#list.entries()) {
      const before = records[place];
      if (before?.record.state === 'done') continue;
      holding.assertHeld();
      throwIfAborted(stop);
      await runner.run(migration, stepKey(this.#steps, place), before);
      ran.push(migration.id);
    }
    return { ran };
  }

  async #settle(
    runner: MigrationRunner,
    stop: AbortSignal,
    id: string,
    how: 'done' | 'again',
  ): Promise<void> {
    const { clock } = this.#context.session.client;
    const recorded = this.#records((await this.#read({}, stop)).entries.values());
    const found = recorded.find(({ record }) => record.id === id);
    if (found === undefined) {
      throw new ConclaveError('NOT_FOUND', `No attempt at '${id}' of '${this.name}' is recorded`);
    }
    const { kv, record } = found;
    if (record.state === 'done') {
      throw new ConclaveError('FAILED_PRECONDITION', `Migration '${id}' of '${this.name}' is done`);
    }
    if (how === 'done') {
      const finishedMs = clock.wallMs();
      const settled = { ...record, state: 'done', finishedMs, resolved: true } as const;
      await runner.record(kv.key, kv, settled, [], stop);
      return;
    }
    await runner.forget(found, stop);
  }

  /** Does the work when this process is first in line; or nothing, once `seen` shows all done. */
  async #inTheLead(
    signal: AbortSignal | undefined,
    patience: Patience,
    seen: PrefixView | undefined,
    work: (holding: Holding, stop: AbortSignal) => Promise<Migrated>,
  ): Promise<Migrated> {
    const { background } = this.#context;
    const stop = linkedSignal(signal);
    const running = this.#waitAndWork(stop.signal, patience, seen, work);
    const closed = sessionClosed();
    const entry = {
      close: async () => {
        stop.abort(closed);
        await running.catch(() => undefined);
      },
    };
    background.add(entry);
    try {
      return await running;
    } catch (error) {
      throw isConclaveError(error, 'ABORTED') && error.cause === closed ? closed : error;
    } finally {
      background.delete(entry);
      stop.unlink();
    }
  }

  async #waitAndWork(
    stop: AbortSignal,
    patience: Patience,
    seen: PrefixView | undefined,
    work: (holding: Holding, stop: AbortSignal) => Promise<Migrated>,
  ): Promise<Migrated> {
    const waiting = linkedSignal(stop);
    let following: Promise<boolean> = Promise.resolve(false);
    let followed: { readonly done: boolean } | { readonly error: unknown } | undefined;
    let isFollowing = false;
    const follow = () => {
      if (seen === undefined || isFollowing) return;
      isFollowing = true;
      following = this.#followUntilDone(seen, waiting.signal);
      following.then(
        (done) => {
          followed = { done };
          if (done) waiting.abort();
        },
        (error: unknown) => {
          followed = { error };
          waiting.abort();
        },
      );
    };
    try {
      const holding = await this.#wait(waiting.signal, patience, follow).catch((error: unknown) => {
        if (followed && 'error' in followed) throw followed.error;
        if (followed?.done) return undefined;
        throw error;
      });
      waiting.abort();
      if (holding === undefined) return { ran: [] };
      return await this.#work(holding, stop, work);
    } finally {
      waiting.abort();
      await following.catch(() => undefined);
    }
  }

  async #work(
    holding: Holding,
    stop: AbortSignal,
    work: (holding: Holding, stop: AbortSignal) => Promise<Migrated>,
  ): Promise<Migrated> {
    const either = linkedSignal(holding.signal, stop);
    try {
      return await work(holding, either.signal);
    } catch (error) {
      // Stopped by the loss, not by the caller.
      if (isConclaveError(error, 'ABORTED') && !stop.aborted) throw holding.lostReason ?? error;
      throw error;
    } finally {
      either.unlink();
      await holding[Symbol.asyncDispose]();
    }
  }

  /** @param onWait called at each look that shows others ahead */
  #wait(signal: AbortSignal, patience: Patience, onWait: () => void): Promise<Holding> {
    const { session } = this.#context;
    const { clock, random } = session.client;
    const subject = { recipe: 'migrations', name: this.name, lostCode: 'LEADERSHIP_LOST' } as const;
    const membership = {
      prefix: `${this.#prefix}line/`,
      attempt: randomId(random),
      value: encodeLineRecord({ sinceMs: clock.wallMs(), meta: session.meta }),
      check: ({ ahead }: { readonly ahead: readonly unknown[] }) => {
        if (ahead.length > 0) onWait();
        return undefined;
      },
      ...(this.#recheckMs === undefined ? {} : { timing: { recheckMs: this.#recheckMs } }),
    };
    return waitForHold(this.#context, subject, membership, {
      signal,
      timeoutMs: this.#leftMs(patience),
    }).catch((cause: unknown) => {
      if (!isConclaveError(cause, 'NOT_ACQUIRED')) throw cause;
      throw this.#late(patience, cause);
    });
  }

  async #followUntilDone(start: PrefixView, signal: AbortSignal): Promise<boolean> {
    const { client } = this.#context.session;
    for await (const { entries } of viewPrefix(client, this.#steps, { signal, start })) {
      if (this.#isDone(entries.values())) return true;
    }
    return false;
  }
}
