/**
 * The instances of a service as one client knows and uses them: what is listed (`instance-feed.ts`),
 * what of that it holds back for now (`standing.ts`), and which instance gets the next piece of work
 * (`selection.ts`, then the strategy).
 */

import { filter, Subscription } from 'rxjs';
import { aborted, ConclaveError, invalidArgument, isConclaveError } from '../../sdk/errors.ts';
import { EventSource, StateSource } from '../../sdk/observe.ts';
import type { Duration } from '../../sdk/options.ts';
import type { RecipeContext } from '../common/context.ts';
import { measureHold } from '../common/measured-hold.ts';
import { checkFunction, checkOptions, checkSignal, timeLimits } from '../common/option-checks.ts';
import { patienceOf, waitPatiently } from '../common/patience.ts';
import { onAbort } from '../common/signals.ts';
import { eventView, stateView, type View } from '../common/view.ts';
import type { Instance, ServicePlace } from './instance.ts';
import { type Change, InstanceFeed } from './instance-feed.ts';
import { Pick, type Picked, type Verdict } from './picked.ts';
import { type PoolOptions, type PoolRules, poolRules } from './pool-options.ts';
import { drawFrom, nothing, type Selection, select } from './selection.ts';
import { type HeldBack, Standing } from './standing.ts';

export type PoolEvent<M> =
  | Change<M>
  /** The store has not answered lately, so what is known may be out of date; or it does so again. */
  | { readonly type: 'stale' | 'fresh' }
  /** It is up, but this client does not use it for now; or does so again. */
  | { readonly type: 'held-back'; readonly instance: Instance<M>; readonly why: HeldBack }
  | { readonly type: 'returned'; readonly instance: Instance<M> };

export type PickOptions = {
  /** Ids of instances to leave out, such as the one that just failed. */
  readonly except?: Iterable<string>;
};

export type AcquireOptions = PickOptions & {
  /** Ends the wait: rejects with ABORTED. */
  readonly signal?: AbortSignal;
  /** How long to wait for an instance: rejects with NOT_ACQUIRED. @default for ever */
  readonly timeout?: Duration;
};

/** One instance, as `inspect` shows it. */
export type PoolEntry<M> = {
  readonly instance: Instance<M>;
  /** Picks that have not ended. */
  readonly inFlight: number;
  /** Why this client does not use it although it is up, if it does not. */
  readonly heldBack: HeldBack | undefined;
  /** How much it came and went lately, in flaps; 0 without damping. */
  readonly penalty: number;
  /** Whether it may be picked now. */
  readonly isSelected: boolean;
};

export class Pool<M> implements AsyncDisposable {
  readonly service: string;
  /** All instances, also those that are not picked; emits once they are known, then on each change. */
  readonly instances$: View<readonly Instance<M>[]>;
  /** What may be picked; emits once the instances are known, then on each change. */
  readonly selection$: View<Selection<M>>;
  readonly events$: View<PoolEvent<M>>;
  readonly #context: RecipeContext;
  readonly #rules: PoolRules<M>;
  readonly #feed: InstanceFeed<M>;
  readonly #standing: Standing<M>;
  readonly #instances = new StateSource<readonly Instance<M>[] | undefined>(undefined);
  readonly #selection = new StateSource<Selection<M>>(nothing);
  readonly #events = new EventSource<PoolEvent<M>>();
  readonly #inFlight = new Map<string, number>();
  /** The latest, also while subscribers are being told of it. */
  #snapshot: readonly Instance<M>[] | undefined;
  #revision = 0n;
  /** Those that are held back, by id. */
  #heldBack: ReadonlySet<string> = new Set();
  #cancelReturn: () => void = () => undefined;
  #closed: Promise<void> | undefined;

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(context: RecipeContext, place: ServicePlace<M>, options: PoolOptions<M> = {}) {
    const { client } = context.session;
    this.service = place.service;
    this.#context = context;
    this.#rules = poolRules(options);
    this.instances$ = stateView(
      this.#instances.observable.pipe(filter((value) => value !== undefined)),
    );
    this.selection$ = stateView(
      this.#selection.observable.pipe(filter((value) => value !== nothing)),
    );
    this.events$ = eventView(this.#events.observable);
    this.#standing = new Standing(client, this.#rules.standing, () => this.#tell(this.#select()));
    this.#feed = new InstanceFeed<M>(client, place, this.#rules.recheckMs, {
      show: (instances, changes, revision) => this.#show(instances, changes, revision),
      mark: (stale) => this.#events.emit({ type: stale ? 'stale' : 'fresh' }),
    });
    context.background.add(this);
    // Too late to be ended with the session.
    if (isConclaveError(context.session.signal.reason, 'CLOSED')) void this.close();
  }

  /** The instances last known, in the order of their ids; empty until the first answer. */
  get snapshot(): readonly Instance<M>[] {
    return this.#snapshot ?? [];
  }

  /** The store's revision that `snapshot` is exact of; 0 until the first answer. */
  get revision(): bigint {
    return this.#revision;
  }

  /** What may be picked. */
  get selection(): Selection<M> {
    return this.#selection.value;
  }

  /** Whether the store has not answered lately (or yet), so that `snapshot` may be out of date. */
  get stale(): boolean {
    return this.#feed.stale;
  }

  /** Resolves once the instances are known. @throws ConclaveError ABORTED, CLOSED, INVALID_ARGUMENT */
  async ready(signal?: AbortSignal): Promise<void> {
    checkSignal(signal);
    if (this.#snapshot) return;
    await this.#once(
      () => (this.#snapshot ? true : undefined),
      signal,
      () => signal && aborted(signal),
    );
  }

  /**
   * An instance to use next, by the pool's strategy; null when there is none.
   *
   * @throws ConclaveError INVALID_ARGUMENT
   */
  pick(options: PickOptions = {}): Picked<M> | null {
    checkOptions<PickOptions>(options, { except: true });
    const picked = this.#pick(idsToLeaveOut(options));
    if (picked === undefined)
      this.#context.metrics.contended({ ...this.#subject, kind: 'refused' });
    return picked ?? null;
  }

  /** Like `pick`, but waits until there is one. @throws ConclaveError NOT_ACQUIRED, ABORTED, CLOSED */
  async acquire(options: AcquireOptions = {}): Promise<Picked<M>> {
    checkOptions<AcquireOptions>(options, { ...timeLimits, except: true });
    const left = idsToLeaveOut(options);
    const attempt = () => this.#pick(left);
    const late = (timeoutMs: number) => {
      const message = `No instance of '${this.service}' within ${timeoutMs} ms: none is usable`;
      return new ConclaveError('NOT_ACQUIRED', message);
    };
    const patience = patienceOf(options);
    return waitPatiently(this.#context, this.#subject, patience, late, async (enough) => {
      const first = attempt();
      if (first !== undefined) return first;
      this.#context.metrics.contended({ ...this.#subject, kind: 'wait' });
      return this.#once(attempt, enough, () => enough?.reason);
    });
  }

  /**
   * Does a piece of work with an instance: it failed if the work throws.
   *
   * @throws ConclaveError NOT_ACQUIRED, ABORTED, CLOSED; and what the work throws
   */
  async using<R>(
    work: (instance: Instance<M>) => R | Promise<R>,
    options: AcquireOptions = {},
  ): Promise<R> {
    checkFunction(work, 'work');
    const picked = await this.acquire(options);
    try {
      const result = await work(picked.instance);
      picked.done();
      return result;
    } catch (error) {
      picked.fail(error);
      throw error;
    }
  }

  /** Every instance, and why it is used or not. */
  inspect(): readonly PoolEntry<M>[] {
    const selected = new Set(this.selection.tiers.flatMap(({ instances }) => instances));
    return this.snapshot.map((instance) => ({
      instance,
      inFlight: this.#inFlight.get(instance.id) ?? 0,
      heldBack: this.#standing.heldBack(instance),
      penalty: this.#standing.penalty(instance),
      isSelected: selected.has(instance),
    }));
  }

  /** Reads all instances again, now. */
  refresh(): void {
    this.#feed.refresh();
  }

  /** Idempotent; never rejects. Picks may be ended afterwards. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    this.#context.background.delete(this);
    this.#cancelReturn();
    this.#standing.close();
    await this.#feed.close();
    this.#selection.complete();
    this.#instances.complete();
    this.#events.complete();
  }

  get #subject() {
    return { recipe: 'pool', name: this.service } as const;
  }

  #pick(except: ReadonlySet<string>): Picked<M> | undefined {
    const { random, clock } = this.#context.session.client;
    const among = drawFrom(this.selection, random, except);
    if (among.length === 0 || this.#closed !== undefined) return undefined;
    const inFlight = (id: string) => this.#inFlight.get(id) ?? 0;
    const instance = this.#rules.strategy(among, { inFlight, random });
    const measureEnd = measureHold(this.#context.metrics, clock, this.#subject);
    this.#inFlight.set(instance.id, inFlight(instance.id) + 1);
    return new Pick(instance, (verdict) => {
      measureEnd();
      this.#ended(instance, verdict);
    });
  }

  #ended(instance: Instance<M>, verdict: Verdict): void {
    const left = (this.#inFlight.get(instance.id) ?? 0) - 1;
    if (left > 0) this.#inFlight.set(instance.id, left);
    else this.#inFlight.delete(instance.id);
    const isJudged = this.#rules.standing.eject !== undefined && this.#closed === undefined;
    if (verdict === 'unknown' || !isJudged) return;
    const working = this.snapshot.filter(({ status }) => status !== 'draining');
    this.#standing.called(instance, verdict === 'done', working);
  }

  #show(instances: readonly Instance<M>[], changes: readonly Change<M>[], revision: bigint): void {
    for (const change of changes) this.#standing.follow(change);
    this.#revision = revision;
    this.#snapshot = instances;
    const turns = this.#select();
    this.#instances.set(instances);
    this.#tell([...changes, ...turns]);
  }

  /** Decides anew what may be picked, and when time will have changed that. */
  #select(): PoolEvent<M>[] {
    const { panic, locality } = this.#rules;
    const before = this.#heldBack;
    const held = new Map<string, HeldBack>();
    const turns: PoolEvent<M>[] = [];
    for (const instance of this.snapshot) {
      const why = this.#standing.heldBack(instance);
      if (why) held.set(instance.id, why);
      if (why && !before.has(instance.id)) turns.push({ type: 'held-back', instance, why });
      if (!why && before.has(instance.id)) turns.push({ type: 'returned', instance });
    }
    this.#heldBack = new Set(held.keys());
    this.#cancelReturn();
    const waits = [...held.values()].flatMap((why) => (why.by === 'probe' ? [] : why.forMs));
    if (waits.length > 0 && this.#closed === undefined) {
      const { clock } = this.#context.session.client;
      const again = () => this.#tell(this.#select());
      // Whole milliseconds: a rest that is too short to pass would be waited for for ever.
      this.#cancelReturn = clock.setTimer(Math.ceil(Math.min(...waits)), again);
    }
    this.#selection.set(select(this.snapshot, ({ id }) => held.has(id), panic, locality));
    return turns;
  }

  #tell(events: readonly PoolEvent<M>[]): void {
    for (const event of events) this.#events.emit(event);
  }

  /** What `attempt` gives as soon as it gives anything; `why` says what it comes to after an abort. */
  #once<T>(
    attempt: () => T | undefined,
    signal: AbortSignal | undefined,
    why: () => unknown,
  ): Promise<T> {
    const subscription = new Subscription();
    return new Promise<T>((resolve, reject) => {
      subscription.add(onAbort(signal, () => reject(why())));
      const tryOnce = () => {
        const found = subscription.closed ? undefined : attempt();
        if (found === undefined) return;
        subscription.unsubscribe();
        resolve(found);
      };
      const message = `Closed: the pool of '${this.service}'`;
      const complete = () => reject(new ConclaveError('CLOSED', message));
      subscription.add(this.selection$.subscribe({ next: tryOnce, complete }));
    }).finally(() => subscription.unsubscribe());
  }
}

/** @throws ConclaveError INVALID_ARGUMENT */
function idsToLeaveOut({ except = [] }: PickOptions): ReadonlySet<string> {
  const given: unknown = except;
  const isList = typeof given === 'object' && given !== null && Symbol.iterator in given;
  const ids = isList ? [...except] : undefined;
  if (ids?.every((id) => typeof id === 'string')) return new Set(ids);
  throw invalidArgument('except', given, "ids of instances, such as ['i-7']");
}
