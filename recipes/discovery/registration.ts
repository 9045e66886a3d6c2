/**
 * One instance's entry in the registry, kept there for as long as its owner wants.
 *
 * The entry lives by a session of its own, is written again with the latest data when that is lost or
 * somebody removes it, and deregistering wins over all of that (`common/kept-entry.ts`). On top of
 * that come health, which may take the entry off the list for a while, and leaving with grace.
 */

import type { Codec } from '../../sdk/codec.ts';
import {
  ConclaveError,
  type ErrorCode,
  invalidArgument,
  isConclaveError,
} from '../../sdk/errors.ts';
import { StateSource } from '../../sdk/observe.ts';
import { type Duration, parseDuration } from '../../sdk/options.ts';
import type { RecipeContext } from '../common/context.ts';
import { KeptEntry, type KeptState, type KeptSubject } from '../common/kept-entry.ts';
import { measureHold } from '../common/measured-hold.ts';
import { checkOptions } from '../common/option-checks.ts';
import { linkedSignal } from '../common/signals.ts';
import { stateView, type View } from '../common/view.ts';
import { InFlight } from './in-flight.ts';
import {
  type InstanceRecord,
  type InstanceStatus,
  metaRecord,
  stampOfInstance,
} from './instance.ts';
import { checkChange, type InstanceData } from './register-options.ts';
import { type HealthPlan, RegistrationHealth } from './registration-health.ts';

/**
 * - `registering`: being written, for the first time or again after a loss.
 * - `registered`: in the store as far as it has told.
 * - `withdrawn`: taken off the list for being unhealthy; returns with its health.
 * - `replaced`: a later registration took the id; this one has ended.
 * - `closed`: deregistered.
 */
export type RegistrationState = 'registering' | 'registered' | 'withdrawn' | 'replaced' | 'closed';

export type RetireOptions = {
  /** How long work that is under way may take. @default '30s' */
  readonly grace?: Duration;
  /**
   * How long there must be no work before the entry is deleted: clients need a moment to learn of the
   * drain, and send work until then. @default '1s'
   */
  readonly quiet?: Duration;
  /** Ends the grace: the entry is deleted at once. */
  readonly signal?: AbortSignal;
};

/** How often the own entry is read, in case no watch told that it is gone. */
const recheckMs = 30_000;

/** What is written of an instance, less the stamp. */
type EntryData<M> = Omit<InstanceRecord<M>, 'v' | 'registration' | 'sequence'>;

/** Which instance it is, and how its metadata is written. */
type Listing<M> = {
  readonly service: string;
  readonly id: string;
  readonly key: string;
  readonly codec: Codec<M> | undefined;
};

const stateOf = {
  writing: 'registering',
  written: 'registered',
  replaced: 'replaced',
  closed: 'closed',
} as const satisfies Record<KeptState, RegistrationState>;

export class Registration<M> implements AsyncDisposable {
  readonly id: string;
  readonly service: string;
  /** Replays the last; completes when the registration has ended. */
  readonly state$: View<RegistrationState>;
  readonly #context: RecipeContext;
  readonly #codec: Codec<M> | undefined;
  readonly #subject: KeptSubject<InstanceData<M>>;
  readonly #health: RegistrationHealth | undefined;
  readonly #inFlight = new InFlight();
  readonly #state = new StateSource<RegistrationState>('registering');
  readonly #closing = new AbortController();
  readonly #sinceMs: number;
  /** What the store took last; and the changes that it has not confirmed yet, in their order. */
  #data: InstanceData<M>;
  readonly #changes = new Set<Partial<InstanceData<M>>>();
  #isDraining = false;
  /** The same as the store took it; and how often it was set. */
  #wasDraining = false;
  #settings = 0;
  /** What was last written as the status, and since when it is that. */
  #status: { readonly status: InstanceStatus; readonly sinceMs: number };
  /** The entry; undefined while it is withdrawn. */
  #entry: KeptEntry<InstanceData<M>> | undefined;
  /** In whose name the entry is written, over its withdrawals. */
  #owner: string | undefined;
  /** Present while it is registered. */
  #measureEnd: (() => void) | undefined;
  /** Withdrawals and returns, one after the other. */
  #turns: Promise<void> = Promise.resolve();
  #closed: Promise<void> | undefined;

  constructor(
    context: RecipeContext,
    { service, id, key, codec }: Listing<M>,
    data: InstanceData<M>,
    plan?: HealthPlan,
  ) {
    const { client } = context.session;
    this.id = id;
    this.service = service;
    this.state$ = stateView(this.#state.observable);
    this.#context = context;
    this.#codec = codec;
    this.#subject = {
      key,
      what: `The registration of '${id}' in service '${service}'`,
      encode: (data, { owner, sequence }) => {
        const record = { v: 1, ...this.#record(data), registration: owner, sequence } as const;
        return JSON.stringify(record satisfies InstanceRecord<M>);
      },
      stampOf: stampOfInstance,
      recheckMs,
      onLost: (reason) => context.metrics.lost({ ...this.#measured, reason }),
    };
    this.#health = plan && new RegistrationHealth(client, plan, () => this.#heed());
    this.#sinceMs = client.clock.wallMs();
    this.#data = data;
    this.#status = { status: 'up', sinceMs: this.#sinceMs };
  }

  get state(): RegistrationState {
    return this.#state.value;
  }

  /** What others see: draining goes before unhealthy. */
  get status(): InstanceStatus {
    if (this.#isDraining) return 'draining';
    return this.#health === undefined || this.#health.isHealthy ? 'up' : 'unhealthy';
  }

  /** The work begun by `begin` or `track` that has not ended. */
  get inFlight(): number {
    return this.#inFlight.count;
  }

  /** Resolves when the entry is in the store; with checks, after the first of them. */
  async start(): Promise<void> {
    const { session, background, metrics } = this.#context;
    const { clock } = session.client;
    const startedMs = clock.monotonicMs();
    const report = (outcome: 'acquired' | ErrorCode) =>
      metrics.waited({ ...this.#measured, ms: clock.monotonicMs() - startedMs, outcome });
    background.add(this);
    try {
      await this.#health?.start(this.#closing.signal);
      await this.#list();
    } catch (error) {
      report(isConclaveError(error) ? error.code : 'INTERNAL');
      throw error;
    }
    report('acquired');
  }

  /**
   * Changes the entry in place, without a gap in which it is missing. Resolves when the store has it;
   * if the entry is being written again after a loss, that carries the new data; if it is withdrawn,
   * its return will.
   *
   * @throws ConclaveError INVALID_ARGUMENT, CODEC, CLOSED, MISMATCH when the id was taken over, and what
   *   the store refuses, such as TOO_LARGE: then the data stays as it was
   */
  async update(change: Partial<InstanceData<M>>): Promise<void> {
    checkChange(change);
    if ('meta' in change) metaRecord(change.meta as M, this.#codec);
    const own = { ...change };
    this.#changes.add(own);
    try {
      await this.#write((data) => ({ ...data, ...own }));
      this.#data = { ...this.#data, ...own };
    } finally {
      this.#changes.delete(own);
    }
  }

  /** `draining` asks pools to pick others; `up` takes part again. @throws like `update` */
  async set(status: 'up' | 'draining'): Promise<void> {
    if (status !== 'up' && status !== 'draining') {
      throw invalidArgument('status', status, "'up' or 'draining'");
    }
    const isDraining = status === 'draining';
    this.#isDraining = isDraining;
    this.#settings += 1;
    const setting = this.#settings;
    try {
      await this.#write();
      this.#wasDraining = isDraining;
    } catch (error) {
      const isLatest = setting === this.#settings && !this.#closing.signal.aborted;
      if (isLatest) this.#isDraining = this.#wasDraining;
      throw error;
    }
  }

  /** Asks pools to pick others, while this instance finishes what it has. */
  drain(): Promise<void> {
    return this.set('draining');
  }

  /** Takes part again after `drain()`. */
  resume(): Promise<void> {
    return this.set('up');
  }

  /** Counts a piece of work, until it is disposed of. */
  begin(): Disposable {
    const end = this.#inFlight.begin();
    return { [Symbol.dispose]: end };
  }

  /** Counts a piece of work while it runs. */
  async track<T>(work: () => T | Promise<T>): Promise<T> {
    const end = this.#inFlight.begin();
    try {
      return await work();
    } finally {
      end();
    }
  }

  /**
   * Drains, waits until the work counted has ended, or for the grace, and deregisters. Whether the
   * store answers or not, it takes little longer than the grace.
   *
   * @returns the work that was still under way when the entry was deleted
   * @throws ConclaveError INVALID_ARGUMENT
   */
  async retire(options: RetireOptions = {}): Promise<{ readonly inFlight: number }> {
    checkOptions<RetireOptions>(options, { grace: true, quiet: true, signal: true });
    const graceMs = parseDuration(options.grace ?? '30s', 'grace');
    const quietMs = parseDuration(options.quiet ?? '1s', 'quiet');
    const { client } = this.#context.session;
    const patience = linkedSignal(this.#closing.signal, options.signal);
    const cancel = client.clock.setTimer(graceMs, () => patience.abort(), true);
    try {
      // Not awaited: the grace counts from now on. What cannot be told to the store is deleted anyway.
      void this.drain().catch(() => undefined);
      await this.#inFlight.untilQuiet(client, quietMs, patience.signal);
    } finally {
      cancel();
      patience.unlink();
    }
    const { inFlight } = this;
    await this.deregister();
    return { inFlight };
  }

  /** Removes the entry for good. Idempotent; never rejects: at worst the lease runs out. */
  deregister(): Promise<void> {
    this.#closed ??= this.#close('closed');
    return this.#closed;
  }

  /** The same as `deregister`. */
  close(): Promise<void> {
    return this.deregister();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.deregister();
  }

  get #measured() {
    return { recipe: 'registry', name: this.service } as const;
  }

  async #close(state: 'closed' | 'replaced'): Promise<void> {
    this.#context.background.delete(this);
    // Before anything else: no entry may be made after this.
    this.#closing.abort();
    this.#tell(state);
    // An entry that ends by itself is just about to say so to those who wait for it.
    await null;
    await Promise.all([this.#entry?.close(), this.#turns]);
    this.#state.complete();
  }

  /** Makes the entry, and lives with it. */
  async #list(): Promise<void> {
    if (this.#closing.signal.aborted) throw this.#ended();
    const latest: InstanceData<M> = Object.assign({}, this.#data, ...this.#changes);
    const entry = new KeptEntry(this.#context, this.#subject, latest, this.#owner);
    this.#entry = entry;
    this.#owner = entry.owner;
    entry.state$.subscribe((kept) => {
      if (this.#entry !== entry) return;
      const state = stateOf[kept];
      if (state === 'closed' || state === 'replaced') this.#closed ??= this.#close(state);
      else this.#tell(state);
    });
    await entry.start();
    if (this.#closing.signal.aborted) throw this.#ended();
  }

  async #write(change = (data: InstanceData<M>) => data): Promise<void> {
    if (this.#closing.signal.aborted) throw this.#ended();
    const entry = this.#entry;
    try {
      await entry?.change(change);
    } catch (error) {
      const isWithdrawn = this.#entry !== entry && !this.#closing.signal.aborted;
      // Its return carries the change.
      if (!(isWithdrawn && isConclaveError(error, 'CLOSED'))) throw error;
    }
  }

  #ended(): ConclaveError {
    const { what } = this.#subject;
    return this.state === 'replaced'
      ? new ConclaveError('MISMATCH', `${what} was replaced by a later one with the same id`)
      : new ConclaveError('CLOSED', `${what} was closed`);
  }

  /** The health has changed: the entry has to say so, or to go, or to return. */
  #heed(): void {
    this.#turns = this.#turns.then(() => this.#turn()).catch(() => undefined);
  }

  async #turn(): Promise<void> {
    const entry = this.#entry;
    // The first check is made before there is an entry.
    if (this.#closing.signal.aborted || (!entry && this.state !== 'withdrawn')) return;
    if (this.#health?.isWithdrawn) {
      this.#entry = undefined;
      this.#tell('withdrawn');
      await entry?.close();
    } else if (entry) {
      // Not awaited: what comes next may be more recent.
      void this.#write().catch(() => undefined);
    } else {
      this.#tell('registering');
      // Only what can never succeed makes it fail: then the registration has ended.
      await this.#list();
    }
  }

  #tell(state: RegistrationState): void {
    const { session, metrics } = this.#context;
    if (state === 'registered') {
      this.#measureEnd ??= measureHold(metrics, session.client.clock, this.#measured);
    } else {
      this.#measureEnd?.();
      this.#measureEnd = undefined;
    }
    this.#state.set(state);
  }

  #record({ zone, meta, ...data }: InstanceData<M>): EntryData<M> {
    const { status } = this;
    if (status !== this.#status.status) {
      this.#status = { status, sinceMs: this.#context.session.client.clock.wallMs() };
    }
    const reason = this.#health?.reason;
    return {
      ...data,
      ...metaRecord(meta, this.#codec),
      ...(zone === undefined ? {} : { zone }),
      status,
      ...(reason === undefined ? {} : { reason }),
      sinceMs: this.#sinceMs,
      statusMs: this.#status.sinceMs,
    };
  }
}
