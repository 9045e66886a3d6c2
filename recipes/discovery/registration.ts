/**
 * One instance's entry in the registry, kept there for as long as its owner wants.
 *
 * The entry lives by a session of its own. When that is lost, or somebody removes the key, the entry
 * is written again, after a random delay, with the latest data. Deregistering wins over all of that:
 * it stops the writer first and revokes the lease, so that no late write can bring the entry back.
 */
import { ConclaveError, isConclaveError } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { type Observable, StateSource } from '../../sdk/observe.ts';
import type { Session } from '../../sdk/session.ts';
import { compare, op } from '../../sdk/txn.ts';
import type { RecipeContext } from '../common/context.ts';
import { closingPatienceMs, fullJitterMs, pause, untilAnswered } from '../common/repeat.ts';
import { SessionKeeper } from '../common/session-keeper.ts';
import { linkedSignal } from '../common/signals.ts';
import { randomId } from '../names.ts';
import { type InstanceRecord, type InstanceStatus, readInstanceRecord } from './instance.ts';

/**
 * - `registering`: being written, for the first time or again after a loss.
 * - `registered`: in the store as far as it has told.
 * - `replaced`: a later registration took the id; this one has ended.
 * - `closed`: deregistered.
 */
export type RegistrationState = 'registering' | 'registered' | 'replaced' | 'closed';

export type InstanceData<M> = {
  readonly address: string;
  readonly meta: M;
  readonly weight: number;
  readonly status: InstanceStatus;
};

/** Longest random delay before a removed entry is written again. */
const rewriteSpreadMs = 500;

export class Registration<M> implements AsyncDisposable {
  readonly id: string;
  /** Replays the last; completes when the registration has ended. */
  readonly state$: Observable<RegistrationState>;
  readonly #context: RecipeContext;
  readonly #service: string;
  readonly #key: string;
  readonly #keeper: SessionKeeper;
  readonly #state = new StateSource<RegistrationState>('registering');
  readonly #closing = new AbortController();
  readonly #nonce: string;
  readonly #sinceMs: number;
  #data: InstanceData<M>;
  /** The write wanted, and the last one the store confirmed. */
  #wanted = 1;
  #confirmed = 0;
  /** The modRevision of the last confirmed write, in the session that made it. */
  #written: { readonly session: Session; readonly revision: bigint } | undefined;
  /** What waits for the writer to look again. */
  #wake: () => void = () => undefined;
  #waiters: { readonly sequence: number; settle(error?: unknown): void }[] = [];
  #running: Promise<void> = Promise.resolve();
  #closed: Promise<void> | undefined;

  constructor(
    context: RecipeContext,
    entry: { readonly service: string; readonly id: string; readonly key: string },
    data: InstanceData<M>,
  ) {
    const { client } = context.session;
    this.id = entry.id;
    this.state$ = this.#state.observable;
    this.#context = context;
    this.#service = entry.service;
    this.#key = entry.key;
    this.#keeper = new SessionKeeper(context.session, 'separate');
    this.#nonce = randomId(client.random);
    this.#sinceMs = client.clock.wallMs();
    this.#data = data;
  }

  get state(): RegistrationState {
    return this.#state.value;
  }

  /** Resolves when the entry is in the store. */
  async start(): Promise<void> {
    this.#context.background.add(this);
    const written = this.#untilConfirmed(this.#wanted);
    this.#running = this.#run();
    await written;
  }

  /**
   * Changes the entry in place, without a gap in which it is missing. Resolves when the store has it;
   * if the entry is being written again after a loss, that carries the new data.
   *
   * @throws ConclaveError CLOSED, MISMATCH when the id was taken over
   */
  update(change: Partial<Pick<InstanceData<M>, 'address' | 'meta' | 'weight'>>): Promise<void> {
    return this.#change(change);
  }

  /** Asks pools to pick others, while this instance finishes what it has. */
  drain(): Promise<void> {
    return this.#change({ status: 'draining' });
  }

  /** Takes part again after `drain()`. */
  resume(): Promise<void> {
    return this.#change({ status: 'up' });
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

  #change(change: Partial<InstanceData<M>>): Promise<void> {
    if (this.#closing.signal.aborted) return Promise.reject(this.#ended());
    this.#data = { ...this.#data, ...change };
    this.#wanted += 1;
    const confirmed = this.#untilConfirmed(this.#wanted);
    this.#wake();
    return confirmed;
  }

  #untilConfirmed(sequence: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiters.push({
        sequence,
        settle: (error) => (error === undefined ? resolve() : reject(error)),
      });
    });
  }

  #ended(): ConclaveError {
    const what = `The registration of '${this.id}' in service '${this.#service}'`;
    return this.state === 'replaced'
      ? new ConclaveError('MISMATCH', `${what} was replaced by a later one with the same id`)
      : new ConclaveError('CLOSED', `${what} was closed`);
  }

  async #close(state: 'closed' | 'replaced', error?: unknown): Promise<void> {
    this.#context.background.delete(this);
    // Before anything else: no write may start after this.
    if (this.state !== 'replaced') this.#state.set(state);
    this.#closing.abort();
    await this.#running;
    if (this.state === 'closed') await this.#remove().catch(() => undefined);
    await this.#keeper.close();
    for (const waiter of this.#waiters.splice(0)) waiter.settle(error ?? this.#ended());
    this.#state.complete();
  }

  /** The only writer: one write at a time, always of the latest data. */
  async #run(): Promise<void> {
    const { signal } = this.#closing;
    const { client } = this.#keeper;
    for (let failures = 0; !signal.aborted; ) {
      try {
        const session = await this.#keeper.live(signal);
        const current = this.#written?.session === session && this.#confirmed === this.#wanted;
        if (!current) await this.#write(session);
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

  async #write(session: Session): Promise<void> {
    const { client, lease } = session;
    const { signal } = this.#closing;
    for (let first = this.#written === undefined; ; ) {
      const sequence = this.#wanted;
      const value = JSON.stringify(this.#record(sequence));
      const before = this.#written?.revision ?? 0n;
      const txn = client.kv
        .txn()
        .if(compare.modRevision(this.#key, '==', before))
        .then(op.put(this.#key, value, { lease }))
        .else(op.get(this.#key));
      const result = await untilAnswered(client, () => txn.commit(), signal);
      if (result.succeeded) {
        this.#confirm(session, result.revision, sequence);
        return;
      }
      const found = result.responses[0];
      const record = found ? readInstanceRecord<M>(found) : {};
      const mine = record.registration === this.#nonce;
      if (found && mine && record.sequence === sequence && found.lease === lease) {
        // An earlier attempt took effect and its answer was lost.
        this.#confirm(session, found.modRevision, sequence);
        return;
      }
      if (found && !mine && !first) {
        this.#state.set('replaced');
        this.#closed ??= this.#close('replaced');
        return;
      }
      // Gone: write it anew. Mine: update it. Another's, when registering: it is an earlier
      // incarnation that ended without saying so, or will learn that it was replaced.
      this.#written = found ? { session, revision: found.modRevision } : undefined;
      first &&= found === null;
    }
  }

  #confirm(session: Session, revision: bigint, sequence: number): void {
    this.#written = { session, revision };
    this.#confirmed = sequence;
    if (!this.#closing.signal.aborted) this.#state.set('registered');
    const [done, waiting] = [
      this.#waiters.filter((waiter) => waiter.sequence <= sequence),
      this.#waiters.filter((waiter) => waiter.sequence > sequence),
    ];
    this.#waiters = waiting;
    for (const waiter of done) waiter.settle();
  }

  #record(sequence: number): InstanceRecord<M> {
    return {
      v: 1,
      ...this.#data,
      sinceMs: this.#sinceMs,
      registration: this.#nonce,
      sequence,
    };
  }

  /** Waits until there is something to write: new data, a lost session, or a key that changed hands. */
  async #untilNews(session: Session): Promise<void> {
    const { clock, kv, random } = session.client;
    const { signal } = this.#closing;
    const over = linkedSignal(session.signal, signal);
    this.#wake = over.abort;
    try {
      if (session.state === 'lost' || signal.aborted || this.#confirmed !== this.#wanted) return;
      const from = (this.#written?.revision ?? 0n) + 1n;
      for await (const notice of kv.watch(this.#key, { from, signal: over.signal })) {
        if (notice.type === 'progress') continue;
        const latest: KeyValue | undefined =
          notice.type === 'reset'
            ? notice.kvs[0]
            : notice.events.findLast(({ type }) => type === 'put')?.kv;
        const gone = notice.type === 'reset' ? !latest : notice.events.at(-1)?.type === 'delete';
        if (!gone && latest && readInstanceRecord(latest).registration === this.#nonce) continue;
        this.#confirmed = 0;
        this.#state.set('registering');
        // Many entries may have been removed at once.
        if (gone) await pause(clock, random() * rewriteSpreadMs, over.signal);
        return;
      }
    } catch (error) {
      if (!over.signal.aborted) throw error;
    } finally {
      this.#wake = () => undefined;
      over.abort();
      if (session.state === 'lost' && !signal.aborted) this.#state.set('registering');
    }
  }

  async #remove(): Promise<void> {
    const { client } = this.#keeper;
    for (let revision = this.#written?.revision ?? 0n; ; ) {
      const txn = client.kv
        .txn()
        .if(compare.modRevision(this.#key, '==', revision))
        .then(op.delete(this.#key))
        .else(op.get(this.#key));
      const result = await txn.commit({ timeout: closingPatienceMs });
      const found = result.succeeded ? null : result.responses[0];
      if (!found || readInstanceRecord(found).registration !== this.#nonce) return;
      revision = found.modRevision;
    }
  }
}

/** Codes that a new session or another try can cure although the call itself cannot be repeated. */
const passing: ReadonlySet<string> = new Set([
  'LEASE_NOT_FOUND',
  'SESSION_LOST',
  'ABORTED',
  'OUTCOME_UNKNOWN',
]);
