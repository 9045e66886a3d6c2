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

/** A change that the store has not confirmed, and who waits for that. */
type Pending<D> = {
  readonly apply: (data: D) => D;
  readonly settle: (error?: unknown) => void;
};

type Write<D> = {
  readonly batch: readonly Pending<D>[];
  readonly data: D;
  readonly sequence: number;
};

export class KeptEntry<D> {
  /** Replays the last; completes when it has ended. */
  readonly state$: Observable<KeptState>;
  readonly #context: RecipeContext;
  readonly #subject: KeptSubject<D>;
  readonly #keeper: SessionKeeper;
  readonly #state = new StateSource<KeptState>('writing');
  readonly #closing = new AbortController();
  readonly #owner: string;
  /** Whether its first write takes the key from whoever has it. */
  readonly #takesOver: boolean;
  /** The last data that the store took; until then what it began with. */
  #base: D;
  #wasTaken = false;
  /** In the order of their coming. */
  #pending: Pending<D>[] = [];
  /** What the write under way carries of them. */
  #attempted: readonly Pending<D>[] = [];
  /** Several were refused together: who is to blame shows when each is written by itself. */
  #oneByOne = false;
  /** The write wanted, told from all that carry something else; and the last one the store confirmed. */
  #wanted = 1;
  #confirmed = 0;
  /** The last confirmed write, and the session that made it. */
  #written: { readonly session: Session; readonly kv: Pick<KeyValue, 'modRevision'> } | undefined;
  /** What waits for the writer to look again. */
  #wake: () => void = () => undefined;
  #running: Promise<void> = Promise.resolve();
  #closed: Promise<void> | undefined;

  /**
   * @param continued the owner of an earlier entry for the same key: this one goes on in its name, and
   *   has been replaced if somebody else took the key in between. Without it takes the key over.
   */
  constructor(context: RecipeContext, subject: KeptSubject<D>, data: D, continued?: string) {
    this.state$ = this.#state.observable;
    this.#context = context;
    this.#subject = subject;
    this.#keeper = new SessionKeeper(context.session, 'separate');
    this.#owner = continued ?? randomId(context.session.client.random);
    this.#takesOver = continued === undefined;
    this.#base = data;
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

  /** Resolves when the key is in the store. @throws what the store refuses for good, CLOSED */
  async start(): Promise<void> {
    this.#context.background.add(this);
    const written = this.#untilConfirmed((data) => data);
    this.#running = this.#run();
    await written;
  }

  /**
   * Changes the key in place, without a gap in which it is missing. Resolves when the store has it; if
   * it is being written again after a loss, that carries the new data.
   *
   * @param change what it makes of the data that the store took last and of the changes before it; must
   *   not throw, and may be asked more than once
   * @throws ConclaveError CLOSED, MISMATCH when a later owner took the key, and what the store refuses
   *   for good, such as TOO_LARGE: then this change is dropped, and no other
   */
  change(change: (data: D) => D): Promise<void> {
    if (this.#closing.signal.aborted) return Promise.reject(this.#ended());
    this.#wanted += 1;
    const confirmed = this.#untilConfirmed(change);
    this.#wake();
    return confirmed;
  }

  /** Removes the key for good. Idempotent; never rejects: at worst the lease runs out. */
  close(): Promise<void> {
    this.#closed ??= this.#close('closed');
    return this.#closed;
  }

  #untilConfirmed(apply: (data: D) => D): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = (error?: unknown) => (error === undefined ? resolve() : reject(error));
      this.#pending.push({ apply, settle });
    });
  }

  /** What the next write is to carry. */
  #batch(): readonly Pending<D>[] {
    return this.#oneByOne ? this.#pending.slice(0, 1) : [...this.#pending];
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
    for (const { settle } of this.#pending.splice(0)) settle(error ?? this.#ended());
    this.#state.complete();
  }

  /** The only writer: one write at a time, always of the latest data. */
  async #run(): Promise<void> {
    const { signal } = this.#closing;
    const { client } = this.#keeper;
    let session: Session | undefined;
    for (let failures = 0; !signal.aborted; ) {
      try {
        this.#attempted = this.#batch();
        session = await this.#keeper.live(signal);
        const current = this.#written?.session === session && this.#confirmed === this.#wanted;
        if (!current) await this.#write(session);
        this.#attempted = [];
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

  /** A change that was refused is none: what the store took before stays, and is written again. */
  #takeBack(error: unknown): boolean {
    if (!isConclaveError(error)) return false;
    const refused = this.#attempted;
    if (refused.length > 1) this.#oneByOne = true;
    else if (!this.#wasTaken) return false;
    else this.#settle(refused, error);
    if (refused.length === 0) return true;
    this.#wanted += 1;
    if (this.#confirmed > 0 && this.#pending.length === 0) this.#confirmed = this.#wanted;
    return true;
  }

  #settle(batch: readonly Pending<D>[], error?: unknown): void {
    this.#pending = this.#pending.filter((each) => !batch.includes(each));
    this.#oneByOne &&= this.#pending.length > 0;
    for (const { settle } of batch) settle(error);
  }

  async #write(session: Session): Promise<void> {
    const { client, lease } = session;
    const { signal } = this.#closing;
    const { key, encode, stampOf } = this.#subject;
    for (let first = this.#takesOver && !this.#wasTaken; ; ) {
      const sequence = this.#wanted;
      const batch = this.#batch();
      this.#attempted = batch;
      const data = batch.reduce((before, { apply }) => apply(before), this.#base);
      const write = { batch, data, sequence };
      const value = encode(data, { owner: this.#owner, sequence });
      const before = this.#written?.kv.modRevision ?? 0n;
      const txn = client.kv
        .txn()
        .if(compare.modRevision(key, '==', before))
        .then(op.put(key, value, { lease }))
        .else(op.get(key));
      const result = await untilAnswered(client, () => txn.commit(), signal);
      if (result.succeeded) {
        this.#confirm(session, { modRevision: result.revision }, write);
        return;
      }
      const found = result.responses[0];
      const stamp = found ? stampOf(found) : {};
      const mine = stamp.owner === this.#owner;
      if (found && mine && stamp.sequence === sequence && found.lease === lease) {
        // An earlier attempt took effect and its answer was lost.
        this.#confirm(session, found, write);
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
    if (this.#closing.signal.aborted) return;
    this.#subject.onLost?.('MISMATCH');
    this.#state.set('replaced');
    this.#closed ??= this.#close('replaced');
  }

  #confirm(
    session: Session,
    kv: Pick<KeyValue, 'modRevision'>,
    { batch, data, sequence }: Write<D>,
  ): void {
    this.#written = { session, kv };
    this.#confirmed = sequence;
    this.#base = data;
    this.#wasTaken = true;
    if (!this.#closing.signal.aborted) this.#state.set('written');
    this.#settle(batch);
    // The next one by itself is another write, though none was asked for since.
    if (this.#pending.length > 0 && this.#wanted === sequence) this.#wanted += 1;
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
        if (!gone && last) {
          if (this.#isMine(last)) continue;
          this.#replaced();
          return;
        }
        this.#lost('NOT_FOUND');
        await pause(clock, random() * rewriteSpreadMs, over.signal);
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
        if (found && !this.#isMine(found)) this.#replaced();
        else this.#lost('NOT_FOUND');
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
    // Before its first write was confirmed, what is known of the key may be another owner's.
    const known = this.#wasTaken ? this.#written?.kv.modRevision : undefined;
    for (let revision = known ?? 0n; ; ) {
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
