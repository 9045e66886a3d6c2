/** Being the leader: the handle of one term. */
import { ConclaveError } from '../../sdk/errors.ts';
import type { Observable } from '../../sdk/observe.ts';
import { compare, op } from '../../sdk/txn.ts';
import { untilAnswered } from '../common/repeat.ts';
import { linkedSignal } from '../common/signals.ts';
import type { Holding, HoldState } from '../line/holding.ts';

export interface Leadership<T> extends AsyncDisposable {
  readonly name: string;
  /** Fencing number: strictly rises from leader to leader of this name. */
  readonly term: bigint;
  /** The key that stands for this candidate. */
  readonly key: string;
  /** For servers that check the leadership against the store: see `verifySequencer`. */
  readonly sequencer: string;
  /** Aborts when the term ends: LEADERSHIP_LOST, SESSION_LOST, or RELEASED after `resign()`. */
  readonly signal: AbortSignal;
  readonly state$: Observable<HoldState>;
  /** Looks at the clock each time. */
  readonly isLeader: boolean;
  /** @throws ConclaveError RELEASED, LEADERSHIP_LOST, SESSION_LOST, SESSION_SUSPENDED */
  assertLeader(): void;
  /**
   * Replaces the value that followers see; the term stays. Calls take effect in the order made.
   *
   * @throws ConclaveError LEADERSHIP_LOST, SESSION_LOST, RELEASED, CODEC
   */
  proclaim(value: T): Promise<void>;
  /** The transaction under the condition that this term still stands when it commits. */
  guard: Holding['guard'];
  /** Ends the term. Idempotent. @throws ConclaveError when not confirmed; it is then retried */
  resign(): Promise<void>;
}

/** A term as `lead` hands it to its function; `lead` resigns when the function is done. */
export type LeadContext<T> = Pick<
  Leadership<T>,
  'name' | 'term' | 'key' | 'sequencer' | 'state$' | 'assertLeader' | 'proclaim' | 'guard'
> & {
  /** Aborts when the term ends or the caller of `lead` wants it to. */
  readonly signal: AbortSignal;
};

type Turn<R> =
  | { readonly kind: 'done'; readonly value: R }
  | { readonly kind: 'lost'; readonly reason: ConclaveError };

export class Reign<T> implements Leadership<T> {
  readonly name: string;
  readonly guard: Holding['guard'];
  readonly #holding: Holding;
  readonly #encode: (value: T) => string;
  /** The revision of the last proclamation: a late repetition of an older one fails on it. */
  #proclaimed: bigint;
  #lastProclaim: Promise<void> = Promise.resolve();

  constructor(name: string, holding: Holding, encode: (value: T) => string) {
    this.name = name;
    this.#holding = holding;
    this.#encode = encode;
    this.#proclaimed = holding.createRevision;
    this.guard = holding.guard.bind(holding);
  }

  get term(): bigint {
    return this.#holding.createRevision;
  }
  get key(): string {
    return this.#holding.key;
  }
  get sequencer(): string {
    return this.#holding.sequencer;
  }
  get signal(): AbortSignal {
    return this.#holding.signal;
  }
  get state$(): Observable<HoldState> {
    return this.#holding.state$;
  }
  get isLeader(): boolean {
    return this.#holding.isHeld;
  }
  assertLeader(): void {
    this.#holding.assertHeld();
  }

  proclaim(value: T): Promise<void> {
    const record = this.#encode(value);
    const proclaimed = this.#lastProclaim.then(() => this.#proclaim(record));
    this.#lastProclaim = proclaimed.catch(() => undefined);
    return proclaimed;
  }

  resign(): Promise<void> {
    return this.#holding.release();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#holding[Symbol.asyncDispose]();
  }

  /** Runs `fn` for as long as the term lasts, then resigns. Never resigns before `fn` has ended. */
  async run<R>(
    fn: (leadership: LeadContext<T>) => Promise<R> | R,
    stop: AbortSignal,
  ): Promise<Turn<R>> {
    const { signal, unlink } = linkedSignal(this.signal, stop);
    try {
      const value = await fn(this.#contextFor(signal));
      const reason = this.#holding.lostReason;
      return reason ? { kind: 'lost', reason } : { kind: 'done', value };
    } catch (error) {
      // A function that stops by throwing when its term is over has done what it should.
      const reason = this.#holding.lostReason;
      if (!reason) throw error;
      return { kind: 'lost', reason };
    } finally {
      unlink();
      await this[Symbol.asyncDispose]();
    }
  }

  #contextFor(signal: AbortSignal): LeadContext<T> {
    return {
      name: this.name,
      term: this.term,
      key: this.key,
      sequencer: this.sequencer,
      state$: this.state$,
      signal,
      assertLeader: () => this.assertLeader(),
      proclaim: (value) => this.proclaim(value),
      guard: this.guard,
    };
  }

  async #proclaim(record: string): Promise<void> {
    const { client, lease } = this.#holding.session;
    for (;;) {
      this.#holding.assertHeld();
      const txn = client.kv
        .txn()
        .if(compare.modRevision(this.key, '==', this.#proclaimed))
        .then(op.put(this.key, record, { lease }))
        .else(op.get(this.key));
      const result = await untilAnswered(client, () => txn.commit(), this.signal).catch(
        (error: unknown) => {
          this.signal.throwIfAborted();
          throw error;
        },
      );
      if (result.succeeded) {
        this.#proclaimed = result.revision;
        return;
      }
      const found = result.responses[0];
      if (found?.createRevision !== this.term) {
        this.#holding.verify();
        throw new ConclaveError('LEADERSHIP_LOST', `Another leads '${this.name}' by now`);
      }
      this.#proclaimed = found.modRevision;
      // An attempt whose answer was lost did take effect.
      if (Buffer.from(found.value).toString('utf8') === record) return;
    }
  }
}
