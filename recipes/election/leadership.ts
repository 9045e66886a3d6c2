/** Being the leader: the handle of one term. */
import { ConclaveError, invalidArgument } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { compare, op } from '../../sdk/txn.ts';
import { untilAnswered } from '../common/repeat.ts';
import { linkedSignal } from '../common/signals.ts';
import type { View } from '../common/view.ts';
import type { Holding, HoldState } from '../line/holding.ts';
import type { LineEntry } from '../line/line-record.ts';

/** A candidate as `candidates()` lists it. */
export type CandidateRef = Pick<LineEntry, 'key' | 'createRevision' | 'session'>;

/** A candidate that outranks the leader, and has asked it to make way for long enough. */
export type Preemption = LineEntry & { readonly priority: number };

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
  readonly state$: View<HoldState>;
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
  /**
   * By priority: emits when the leader ought to make way, also to those who subscribe later while the
   * candidate still asks; completes with the term. Nothing is taken from the leader: stop, then `transfer` to the one that asks.
   */
  readonly preemption$: View<Preemption>;
  /**
   * By priority: ends the term here, then makes this candidate the leader, in one exchange and without
   * a moment in which nobody leads. The handle is over, whatever comes of it.
   *
   * @throws ConclaveError NOT_FOUND when the candidate was gone: whoever ranks next leads then;
   *   FAILED_PRECONDITION in an election without priorities; INVALID_ARGUMENT, RELEASED,
   *   LEADERSHIP_LOST, SESSION_LOST
   */
  transfer(candidate: CandidateRef): Promise<void>;
  /**
   * Ends the term. By priority the leadership passes to whoever ranks next, as by `transfer`.
   * Idempotent. @throws ConclaveError when not confirmed; it is then retried
   */
  resign(): Promise<void>;
}

/** A term as `lead` hands it to its function; `lead` resigns when the function is done. */
export type LeadContext<T> = Pick<
  Leadership<T>,
  'name' | 'term' | 'key' | 'sequencer' | 'state$' | 'assertLeader' | 'proclaim' | 'guard'
> & {
  /** Aborts when the term ends, is to pass to another, or the caller of `lead` wants it to end. */
  readonly signal: AbortSignal;
  /**
   * By priority: aborts `signal`, and makes this candidate the leader once the function is done. What it
   * returns then is what `lead` returns; where it throws what its signal gives, `lead` stands again.
   *
   * @throws ConclaveError FAILED_PRECONDITION in an election without priorities; INVALID_ARGUMENT
   */
  transferTo(candidate: CandidateRef): void;
};

/** What stands behind a leadership, in either form. */
export type Office = {
  readonly holding: Holding;
  readonly term: bigint;
  readonly preemption$: View<Preemption>;
  /** Absent in an election without priorities. */
  readonly passTo?: (candidate: CandidateRef) => Promise<void>;
  /** The revision of the last write to the candidate's key, if it was not the one that made it. */
  readonly written?: bigint;
  /** Whether a later write took the term over. @default none does */
  readonly isTakenOver?: (kv: KeyValue) => boolean;
};

type Turn<R> =
  | { readonly kind: 'done'; readonly value: R }
  | { readonly kind: 'lost'; readonly reason: ConclaveError };

export class Reign<T> implements Leadership<T> {
  readonly name: string;
  readonly term: bigint;
  readonly guard: Holding['guard'];
  readonly preemption$: View<Preemption>;
  readonly #office: Office;
  readonly #holding: Holding;
  readonly #encode: (value: T) => string | Uint8Array;
  /** The revision of the last proclamation: a late repetition of an older one fails on it. */
  #proclaimed: bigint;
  #lastProclaim: Promise<void> = Promise.resolve();
  /** Set when the store showed the end of the term before the handle heard of it. */
  #overtaken: ConclaveError | undefined;

  constructor(name: string, office: Office, encode: (value: T) => string | Uint8Array) {
    const { holding, term, preemption$ } = office;
    this.name = name;
    this.term = term;
    this.preemption$ = preemption$;
    this.#office = office;
    this.#holding = holding;
    this.#encode = encode;
    this.#proclaimed = office.written ?? holding.createRevision;
    this.guard = holding.guard.bind(holding);
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
  get state$(): View<HoldState> {
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

  async transfer(candidate: CandidateRef): Promise<void> {
    await this.#passTo(candidate);
  }

  resign(): Promise<void> {
    return this.#holding.release();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#holding[Symbol.asyncDispose]();
  }

  /**
   * Runs `fn` for as long as the term lasts, then resigns, or hands over to who is to lead instead.
   * Never before `fn` has ended.
   */
  async run<R>(
    fn: (leadership: LeadContext<T>) => Promise<R> | R,
    stop: AbortSignal,
  ): Promise<Turn<R>> {
    const stopping = linkedSignal(this.signal, stop);
    let heir: CandidateRef | undefined;
    let preempted: ConclaveError | undefined;
    let passing: ConclaveError | undefined;
    const transferTo = (candidate: CandidateRef) => {
      this.#assertTransferable();
      checkCandidate(candidate);
      heir = candidate;
      passing ??= new ConclaveError('RELEASED', `The leadership of '${this.name}' passes on`);
      stopping.abort(passing);
    };
    const following = this.preemption$.subscribe((candidate) => {
      if (heir) return;
      heir = candidate;
      const message = `A candidate of higher priority asks for the leadership of '${this.name}'`;
      preempted = new ConclaveError('LEADERSHIP_LOST', message);
      stopping.abort(preempted);
    });
    try {
      const value = await fn(this.#contextFor(stopping.signal, transferTo));
      const reason = this.#lossOfTerm ?? preempted;
      return reason ? { kind: 'lost', reason } : { kind: 'done', value };
    } catch (error) {
      // A function that stops by throwing when its term is over has done what it should.
      const stopped = passing !== undefined && isThrownFor(passing, error) ? passing : undefined;
      const reason = this.#lossOfTerm ?? preempted ?? stopped;
      if (!reason) throw error;
      return { kind: 'lost', reason };
    } finally {
      following.unsubscribe();
      stopping.unlink();
      // Where that fails the leadership is resigned, or lost already.
      if (heir) await this.#passTo(heir).catch(() => undefined);
      await this[Symbol.asyncDispose]();
    }
  }

  get #lossOfTerm(): ConclaveError | undefined {
    return this.#holding.lostReason ?? this.#overtaken;
  }

  #passTo(candidate: CandidateRef): Promise<void> {
    const passTo = this.#assertTransferable();
    checkCandidate(candidate);
    return passTo(candidate);
  }

  #assertTransferable(): (candidate: CandidateRef) => Promise<void> {
    const { passTo } = this.#office;
    if (passTo) return passTo;
    throw new ConclaveError(
      'FAILED_PRECONDITION',
      `The election '${this.name}' has no priorities, so its leadership goes to whoever came first`,
      { remedy: "Give the option 'priority' in all clients of the election." },
    );
  }

  #contextFor(signal: AbortSignal, transferTo: (candidate: CandidateRef) => void): LeadContext<T> {
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
      transferTo,
    };
  }

  async #proclaim(record: string | Uint8Array): Promise<void> {
    const { client, lease } = this.#holding.session;
    for (;;) {
      const txn = this.guard(client.kv.txn())
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
      const stands =
        found?.createRevision === this.#holding.createRevision &&
        !this.#office.isTakenOver?.(found);
      // The place is there as it was: then it is the term that is over.
      if (!stands || found.modRevision === this.#proclaimed) {
        this.#holding.verify();
        this.#overtaken = new ConclaveError(
          'LEADERSHIP_LOST',
          `Another leads '${this.name}' by now`,
        );
        throw this.#overtaken;
      }
      this.#proclaimed = found.modRevision;
      // An attempt whose answer was lost did take effect.
      if (bytesOf(record).equals(found.value)) return;
    }
  }
}

/** @throws ConclaveError INVALID_ARGUMENT */
export function checkCandidate(candidate: CandidateRef): void {
  const given: Partial<CandidateRef> | null | undefined = candidate;
  const isCandidate =
    typeof given?.key === 'string' &&
    typeof given.createRevision === 'bigint' &&
    typeof given.session === 'string' &&
    /^[0-9a-f]{1,16}$/.test(given.session);
  if (!isCandidate) {
    throw invalidArgument('candidate', given?.key ?? given, 'a candidate as candidates() lists it');
  }
}

/** Whether the error is what a wait throws whose signal aborted for this reason. */
const isThrownFor = (reason: unknown, error: unknown): boolean =>
  error === reason || (error instanceof Error && error.cause === reason);

const bytesOf = (record: string | Uint8Array): Buffer =>
  typeof record === 'string' ? Buffer.from(record, 'utf8') : Buffer.from(record);
