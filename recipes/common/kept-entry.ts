/**
 * One leased key that its owner keeps in the store for as long as it wants, with the latest data.
 *
 * The key lives by a session of its own. When that is lost, somebody removes the key, or the store
 * went back to an old snapshot, the key is written again, after a random delay, with the latest data.
 * Closing wins over all of that: it stops the only writer first, removes the key, and revokes the
 * lease, so that no late write can bring the key back.
 */
import { ConclaveError, type ErrorCode, isConclaveError } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { type Observable, StateSource } from '../../sdk/observe.ts';
import type { Session } from '../../sdk/session.ts';
import { compare, op } from '../../sdk/txn.ts';
import { randomId } from '../names.ts';
import type { RecipeContext } from './context.ts';
import { closingPatienceMs, fullJitterMs, pause, untilAnswered } from './repeat.ts';
import { SessionKeeper } from './session-keeper.ts';
import { linkedSignal } from './signals.ts';

/**
 * - `writing`: being written, for the first time or again after a loss.
 * - `written`: in the store as far as it has told.
 * - `replaced`: a later owner took the key; this one has ended.
 * - `closed`: given up by its owner.
 */
export type KeptState = 'writing' | 'written' | 'replaced' | 'closed';

/** Tells a write from all others: which owner made it, and its how-manieth it is. */
export type Stamp = { readonly owner: string; readonly sequence: number };

export type KeptSubject<D> = {
  readonly key: string;
  /** What the key is, for errors: "The registration of 'a' in service 'b'". */
  readonly what: string;
  readonly encode: (data: D, stamp: Stamp) => string;
  /** The stamp in a value; empty when something else wrote it. */
  readonly stampOf: (kv: KeyValue) => Partial<Stamp>;
  /** How often the own key is read, whatever the watch says, in milliseconds. */
  readonly recheckMs: number;
  /** Hears why an entry that was written is not any more: SESSION_LOST, NOT_FOUND or MISMATCH. */
  readonly onLost?: (reason: ErrorCode) => void;
};

/** Longest random delay before a removed key is written again: many may have been removed at once. */
const rewriteSpreadMs = 500;

/** Codes that a new session or another try can cure although the call itself cannot be repeated. */
const passing: ReadonlySet<string> = new Set([
  'LEASE_NOT_FOUND',
  'SESSION_LOST',
  'ABORTED',
  'OUTCOME_UNKNOWN',
]);

export class KeptEntry<D> {
  /** Replays the last; completes when it has ended. */
  readonly state$: Observable<KeptState>;
  readonly #context: RecipeContext;
  readonly #subject: KeptSubject<D>;
  readonly #keeper: SessionKeeper;
  readonly #state = new StateSource<KeptState>('writing');
  readonly #closing = new AbortController();
  readonly #owner: string;
  #data: D;
  /** The last data that the store took. */
  #taken: { readonly data: D } | undefined;
  /** The write wanted, and the last one the store confirmed. */
  #wanted = 1;
  #confirmed = 0;
  /** The last confirmed write, and the session that made it. */
  #written: { readonly session: Session; readonly kv: Pick<KeyValue, 'modRevision'> } | undefined;
  /** What waits for the writer to look again. */
  #wake: () => void = () => undefined;
  #waiters: { readonly sequence: number; settle(error?: unknown): void }[] = [];
  #running: Promise<void> = Promise.resolve();
  #closed: Promise<void> | undefined;

  constructor(context: RecipeContext, subject: KeptSubject<D>, data: D) {
    this.state$ = this.#state.observable;
    this.#context = context;
    this.#subject = subject;
    this.#keeper = new SessionKeeper(context.session, 'separate');
    this.#owner = randomId(context.session.client.random);
    this.#data = data;
  }

  /** Looks at the clock: a session that is over is known to be before any timer says so. */
  get state(): KeptState {
    const state = this.#state.value;
    return state === 'written' && this.#written?.session.state === 'lost' ? 'writing' : state;
  }

  /** Stands in the stamp of each write. */
  get owner(): string {
    return this.#owner;
  }

  /** The latest data, whether or not the store has it yet. */
  get data(): D {
    return this.#data;
  }

  /** Resolves when the key is in the store. @throws what the store refuses for good, CLOSED */
  async start(): Promise<void> {
    this.#context.background.add(this);
    const written = this.#untilConfirmed(this.#wanted);
    this.#running = this.#run();
    await written;
  }

  /**
   * Changes the key in place, without a gap in which it is missing. Resolves when the store has it; if
   * it is being written again after a loss, that carries the new data.
   *
   * @throws ConclaveError CLOSED, MISMATCH when a later owner took the key, and what the store refuses
   *   for good, such as TOO_LARGE: then the data stays as it was
   */
  change(change: (data: D) => D): Promise<void> {
    if (this.#closing.signal.aborted) return Promise.reject(this.#ended());
    this.#data = change(this.#data);
    this.#wanted += 1;
    const confirmed = this.#untilConfirmed(this.#wanted);
    this.#wake();
    return confirmed;
  }

  /** Removes the key for good. Idempotent; never rejects: at worst the lease runs out. */
  close(): Promise<void> {
    this.#closed ??= this.#close('closed');
    return this.#closed;
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
    const { what } = this.#subject;
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
    let session: Session | undefined;
    for (let failures = 0; !signal.aborted; ) {
      try {
        session = await this.#keeper.live(signal);
        const current = this.#written?.session === session && this.#confirmed === this.#wanted;
        if (!current) await this.#write(session);
        failures = 0;
        if (!signal.aborted) await this.#untilNews(session);
      } catch (error) {
        if (signal.aborted) return;
        if (session && isConclaveError(error, 'LEASE_NOT_FOUND')) {
          this.#keeper.giveUp(session);
          this.#lost('SESSION_LOST');
        }
        const refused = !isConclaveError(error) || !(error.retryable || passing.has(error.code));
        if (refused && !this.#takeBack(error)) {
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

  /** The data that was refused is none: what the store took before stays, and is written again. */
  #takeBack(error: unknown): boolean {
    if (this.#taken === undefined || !isConclaveError(error)) return false;
    if (this.#data === this.#taken.data) return true;
    this.#data = this.#taken.data;
    if (this.#confirmed > 0) this.#confirmed = this.#wanted;
    for (const waiter of this.#waiters.splice(0)) waiter.settle(error);
    return true;
  }

  async #write(session: Session): Promise<void> {
    const { client, lease } = session;
    const { signal } = this.#closing;
    const { key, encode, stampOf } = this.#subject;
    for (let first = this.#taken === undefined; ; ) {
      const sequence = this.#wanted;
      const data = this.#data;
      const value = encode(data, { owner: this.#owner, sequence });
      const before = this.#written?.kv.modRevision ?? 0n;
      const txn = client.kv
        .txn()
        .if(compare.modRevision(key, '==', before))
        .then(op.put(key, value, { lease }))
        .else(op.get(key));
      const result = await untilAnswered(client, () => txn.commit(), signal);
      if (result.succeeded) {
        this.#taken = { data };
        this.#confirm(session, { modRevision: result.revision }, sequence);
        return;
      }
      const found = result.responses[0];
      const stamp = found ? stampOf(found) : {};
      const mine = stamp.owner === this.#owner;
      if (found && mine && stamp.sequence === sequence && found.lease === lease) {
        // An earlier attempt took effect and its answer was lost.
        this.#taken = { data };
        this.#confirm(session, found, sequence);
        return;
      }
      if (found && !mine && !first) {
        this.#replaced();
        return;
      }
      // Gone: write it anew. Mine: update it. Another's, when starting: it is an earlier owner that
      // ended without saying so, or will learn that it was replaced.
      this.#written = found ? { session, kv: found } : undefined;
      first &&= found === null;
    }
  }

  #replaced(): void {
    this.#subject.onLost?.('MISMATCH');
    this.#state.set('replaced');
    this.#closed ??= this.#close('replaced');
  }

  #confirm(session: Session, kv: Pick<KeyValue, 'modRevision'>, sequence: number): void {
    this.#written = { session, kv };
    this.#confirmed = sequence;
    if (!this.#closing.signal.aborted) this.#state.set('written');
    const waiters = this.#waiters;
    this.#waiters = waiters.filter((waiter) => waiter.sequence > sequence);
    for (const waiter of waiters) if (waiter.sequence <= sequence) waiter.settle();
  }

  /** Waits until there is something to write: new data, a lost session, or a key that changed hands. */
  async #untilNews(session: Session): Promise<void> {
    const { clock, kv, random } = session.client;
    const { signal } = this.#closing;
    const over = linkedSignal(session.signal, signal);
    this.#wake = over.abort;
    try {
      if (session.state === 'lost' || signal.aborted || this.#confirmed !== this.#wanted) return;
      void this.#recheck(session, over.signal, over.abort);
      const from = (this.#written?.kv.modRevision ?? 0n) + 1n;
      for await (const notice of kv.watch(this.#subject.key, { from, signal: over.signal })) {
        if (notice.type === 'progress') continue;
        const last = notice.type === 'reset' ? notice.kvs[0] : notice.events.at(-1)?.kv;
        const gone = notice.type === 'reset' ? !last : notice.events.at(-1)?.type === 'delete';
        if (!gone && last && this.#isMine(last)) continue;
        this.#lost('NOT_FOUND');
        if (gone) await pause(clock, random() * rewriteSpreadMs, over.signal);
        return;
      }
    } catch (error) {
      if (!over.signal.aborted) throw error;
    } finally {
      this.#wake = () => undefined;
      over.abort();
      if (session.state === 'lost' && !signal.aborted) this.#lost('SESSION_LOST');
    }
  }

  /** Reads the own key now and then: a store that was restored tells no watch what it has forgotten. */
  async #recheck(session: Session, signal: AbortSignal, wake: () => void): Promise<void> {
    const { client } = session;
    const { key, recheckMs } = this.#subject;
    try {
      for (;;) {
        await pause(client.clock, recheckMs * (0.75 + 0.5 * client.random()), signal);
        const found = await untilAnswered(client, () => client.kv.get(key, { signal }), signal);
        // Older than the last write, though the own: the store went back to before that.
        if (found?.modRevision === this.#written?.kv.modRevision) continue;
        this.#lost('NOT_FOUND');
        wake();
        return;
      }
    } catch {
      // Over, or refused: then writing will be refused as well, and say so.
    }
  }

  #isMine(kv: KeyValue): boolean {
    return this.#subject.stampOf(kv).owner === this.#owner;
  }

  /** What is in the store is not known to be the latest: another write is due. */
  #lost(reason: ErrorCode): void {
    if (this.#state.value !== 'written' || this.#closing.signal.aborted) return;
    this.#confirmed = 0;
    this.#subject.onLost?.(reason);
    this.#state.set('writing');
  }

  async #remove(): Promise<void> {
    const { client } = this.#keeper;
    const { key } = this.#subject;
    for (let revision = this.#written?.kv.modRevision ?? 0n; ; ) {
      const txn = client.kv
        .txn()
        .if(compare.modRevision(key, '==', revision))
        .then(op.delete(key))
        .else(op.get(key));
      const result = await txn.commit({ timeout: closingPatienceMs });
      const found = result.succeeded ? null : result.responses[0];
      if (!found || !this.#isMine(found)) return;
      revision = found.modRevision;
    }
  }
}
