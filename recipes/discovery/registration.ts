/**
 * One instance's entry in the registry, kept there for as long as its owner wants.
 *
 * The entry lives by a session of its own. When that is lost, or somebody removes the key, the entry
 * is written again, after a random delay, with the latest data. Deregistering wins over all of that:
 * it stops the writer first and revokes the lease, so that no late write can bring the entry back.
 */
import { ConclaveError, isConclaveError } from '../../sdk/errors.ts';
import { type Observable, StateSource } from '../../sdk/observe.ts';
import { type Duration, parseDuration } from '../../sdk/options.ts';
import type { Session } from '../../sdk/session.ts';
import type { RecipeContext } from '../common/context.ts';
import { closingPatienceMs, fullJitterMs, pause, untilAnswered } from '../common/repeat.ts';
import { SessionKeeper } from '../common/session-keeper.ts';
import { linkedSignal } from '../common/signals.ts';
import { randomId } from '../names.ts';
import { Confirmations } from './confirmations.ts';
import { Entry, type EntryData } from './entry.ts';
import { InFlight } from './in-flight.ts';
import type { InstanceStatus } from './instance.ts';
import { checkChange, type InstanceData } from './register-options.ts';
import { type HealthPlan, RegistrationHealth } from './registration-health.ts';
import { untilAborted } from './until-aborted.ts';

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

/** Longest random delay before a removed entry is written again. */
const rewriteSpreadMs = 500;
/** How often the own entry is read, in case no watch told that it is gone. */
const recheckMs = 30_000;

export class Registration<M> implements AsyncDisposable {
  readonly id: string;
  readonly service: string;
  /** Replays the last; completes when the registration has ended. */
  readonly state$: Observable<RegistrationState>;
  readonly #context: RecipeContext;
  readonly #entry: Entry<M>;
  readonly #keeper: SessionKeeper;
  readonly #health: RegistrationHealth | undefined;
  readonly #inFlight = new InFlight();
  readonly #confirmations = new Confirmations();
  readonly #state = new StateSource<RegistrationState>('registering');
  readonly #closing = new AbortController();
  readonly #sinceMs: number;
  #data: InstanceData<M>;
  #isDraining = false;
  /** What was last written as the status, and since when it is that. */
  #status: { readonly status: InstanceStatus; readonly sinceMs: number };
  /** The write wanted, and the last one the store confirmed. */
  #wanted = 1;
  #confirmed = 0;
  #registeredAtMs: number | undefined;
  /** What waits for the writer to look again. */
  #wake: () => void = () => undefined;
  #running: Promise<void> = Promise.resolve();
  #closed: Promise<void> | undefined;

  constructor(
    context: RecipeContext,
    { service, id, key }: { readonly service: string; readonly id: string; readonly key: string },
    data: InstanceData<M>,
    plan?: HealthPlan,
  ) {
    const { client } = context.session;
    this.id = id;
    this.service = service;
    this.state$ = this.#state.observable;
    this.#context = context;
    this.#entry = new Entry<M>(key, randomId(client.random));
    this.#keeper = new SessionKeeper(context.session, 'separate');
    this.#health = plan && new RegistrationHealth(client, plan, () => this.#touch());
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
    const { client } = this.#context.session;
    const startedMs = client.clock.monotonicMs();
    this.#context.background.add(this);
    const written = this.#confirmations.wait(this.#wanted);
    this.#running = this.#run();
    await written;
    const ms = client.clock.monotonicMs() - startedMs;
    this.#context.metrics.waited({ ...this.#subject, ms, outcome: 'acquired' });
  }

  /**
   * Changes the entry in place, without a gap in which it is missing. Resolves when the store has it;
   * if the entry is being written again after a loss, that carries the new data; if it is withdrawn,
   * its return will.
   *
   * @throws ConclaveError INVALID_ARGUMENT, CLOSED, MISMATCH when the id was taken over
   */
  async update(change: Partial<InstanceData<M>>): Promise<void> {
    checkChange(change);
    this.#data = { ...this.#data, ...change };
    await this.#change();
  }

  /** `draining` asks pools to pick others; `up` takes part again. @throws like `update` */
  async set(status: 'up' | 'draining'): Promise<void> {
    this.#isDraining = status === 'draining';
    await this.#change();
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
    const inFlight = this.inFlight;
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

  get #subject() {
    return { recipe: 'registry', name: this.service } as const;
  }

  #change(): Promise<void> {
    if (this.#closing.signal.aborted) return Promise.reject(this.#ended());
    this.#touch();
    return this.#confirmations.wait(this.#wanted);
  }

  /** There is something to write, or the entry is to go. */
  #touch(): void {
    this.#wanted += 1;
    this.#wake();
  }

  #ended(): ConclaveError {
    const what = `The registration of '${this.id}' in service '${this.service}'`;
    return this.state === 'replaced'
      ? new ConclaveError('MISMATCH', `${what} was replaced by a later one with the same id`)
      : new ConclaveError('CLOSED', `${what} was closed`);
  }

  async #close(state: 'closed' | 'replaced', error?: unknown): Promise<void> {
    this.#context.background.delete(this);
    this.#tell(state);
    // Before anything else: no write may start after this.
    this.#closing.abort();
    await this.#running;
    if (state === 'closed') {
      const patience = { timeout: closingPatienceMs };
      await this.#entry.remove(this.#keeper.client, patience).catch(() => undefined);
    }
    await this.#keeper.close();
    this.#confirmations.fail(error ?? this.#ended());
    this.#state.complete();
  }

  /** The only writer: one write at a time, always of the latest data. */
  async #run(): Promise<void> {
    const { signal } = this.#closing;
    const { client } = this.#keeper;
    await this.#health?.start(signal);
    for (let failures = 0; !signal.aborted; ) {
      try {
        const session = await this.#keeper.live(signal);
        await this.#bring(session);
        failures = 0;
        if (!signal.aborted) await this.#untilNews(session);
      } catch (error) {
        if (signal.aborted) return;
        if (!isConclaveError(error) || !(error.retryable || passing.has(error.code))) {
          // Not awaited: closing waits for this loop to end.
          this.#closed ??= this.#close('closed', error);
          return;
        }
        failures += 1;
        const delayMs = fullJitterMs(failures, client.random);
        await pause(client.clock, delayMs, signal).catch(() => undefined);
      }
    }
  }

  /** Makes the store have what it should. */
  async #bring(session: Session): Promise<void> {
    const { signal } = this.#closing;
    if (this.#health?.isWithdrawn) {
      const { client } = this.#keeper;
      const wanted = this.#wanted;
      if (this.state !== 'withdrawn') {
        await untilAnswered(client, () => this.#entry.remove(client), signal);
        this.#tell('withdrawn');
      }
      this.#confirm(wanted);
      return;
    }
    if (this.#entry.livesBy(session) && this.#confirmed === this.#wanted) return;
    const latest = () => ({ data: this.#record(), sequence: this.#wanted });
    const outcome = await this.#entry.write(session, latest, signal);
    if (outcome === 'replaced') {
      this.#closed ??= this.#close('replaced');
      return;
    }
    if (!signal.aborted) this.#tell('registered');
    this.#confirm(outcome.wrote);
  }

  #tell(state: RegistrationState): void {
    const { clock } = this.#keeper.client;
    if (state === 'registered') this.#registeredAtMs ??= clock.monotonicMs();
    else if (this.#registeredAtMs !== undefined) {
      const ms = clock.monotonicMs() - this.#registeredAtMs;
      this.#registeredAtMs = undefined;
      this.#context.metrics.held({ ...this.#subject, ms });
    }
    this.#state.set(state);
  }

  #lost(reason: 'SESSION_LOST' | 'NOT_FOUND'): void {
    if (this.state === 'registered') this.#context.metrics.lost({ ...this.#subject, reason });
    this.#confirmed = 0;
    this.#tell('registering');
  }

  #confirm(sequence: number): void {
    this.#confirmed = sequence;
    this.#confirmations.confirm(sequence);
  }

  #record(): EntryData<M> {
    const { status } = this;
    if (status !== this.#status.status) {
      this.#status = { status, sinceMs: this.#keeper.client.clock.wallMs() };
    }
    const { zone, ...data } = this.#data;
    const reason = this.#health?.reason;
    return {
      ...data,
      ...(zone === undefined ? {} : { zone }),
      status,
      ...(reason === undefined ? {} : { reason }),
      sinceMs: this.#sinceMs,
      statusMs: this.#status.sinceMs,
    };
  }

  /** Waits until there is something to write: new data, a lost session, or a key that changed hands. */
  async #untilNews(session: Session): Promise<void> {
    const { clock, random } = session.client;
    const { signal } = this.#closing;
    const over = linkedSignal(session.signal, signal);
    this.#wake = over.abort;
    let isDue = false;
    const cancel = clock.setTimer(recheckMs * (0.75 + 0.5 * random()), () => {
      isDue = true;
      over.abort();
    });
    try {
      if (session.state === 'lost' || signal.aborted || this.#confirmed !== this.#wanted) return;
      if (this.state === 'withdrawn') {
        await untilAborted(over.signal);
      } else if (await this.#entry.changesHands(session.client.kv, over.signal)) {
        this.#lost('NOT_FOUND');
        // Many entries may have been removed at once.
        await pause(clock, random() * rewriteSpreadMs, over.signal);
      }
    } catch (error) {
      if (!over.signal.aborted) throw error;
    } finally {
      cancel();
      this.#wake = () => undefined;
      over.abort();
      if (session.state === 'lost' && !signal.aborted) this.#lost('SESSION_LOST');
    }
    if (!isDue || session.state === 'lost' || this.state !== 'registered') return;
    if (!(await this.#entry.isIntact(session, signal))) this.#lost('NOT_FOUND');
  }
}

/** Codes that a new session or another try can cure although the call itself cannot be repeated. */
const passing: ReadonlySet<string> = new Set([
  'LEASE_NOT_FOUND',
  'SESSION_LOST',
  'ABORTED',
  'OUTCOME_UNKNOWN',
]);
