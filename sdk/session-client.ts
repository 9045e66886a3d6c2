/** Sessions over a connection: noticing, ending, and what is to be done while they live. */
import type { Client } from './client.ts';
import type { Cancel, Clock } from './clock.ts';
import type { Connection } from './connection.ts';
import { aborted, ConclaveError, isConclaveError } from './errors.ts';
import { hexId } from './hex-id.ts';
import type { KeepAliveThread, Seat } from './keep-alive-thread.ts';
import type { Kv } from './kv.ts';
import { EventSource, type Observable, StateSource } from './observe.ts';
import { Renewal } from './renewal.ts';
import { backoffMs } from './retry.ts';
import type { Session, SessionState, SessionTerms, SuspendPolicy } from './session.ts';
import { Deadline, type Instant } from './session-deadline.ts';

export type SessionContext = {
  readonly client: Client;
  readonly connection: Connection;
  readonly clock: Clock;
  /** Of the whole store, under no prefix. */
  readonly kv: Kv;
  /** Absent where there can be none. */
  readonly thread?: KeepAliveThread | undefined;
  /** Told once when the session has ended, whichever way. */
  readonly onEnd: (session: LeaseSession) => void;
};

export type Opened = {
  readonly lease: bigint;
  readonly sentAt: Instant;
  /** Of the lease. */
  readonly ttlMs: number;
  readonly lockDelayMs: number;
  readonly maxBlockMs: number;
  /** Where the thread renews it. @default the event loop does */
  readonly seat?: Seat | undefined;
};

/** A lease that cannot be revoked expires by itself; nobody need wait for it. */
const revokeTimeoutMs = 2_000;

export class LeaseSession implements Session {
  readonly client: Client;
  readonly lease: bigint;
  readonly id: string;
  readonly terms: SessionTerms;
  readonly onSuspend: SuspendPolicy;
  readonly meta: Readonly<Record<string, string>>;
  readonly state$: Observable<SessionState>;
  readonly errors$: Observable<ConclaveError>;
  readonly #context: SessionContext;
  readonly #opened: Opened;
  readonly #deadline: Deadline;
  readonly #states = new StateSource<SessionState>('live');
  readonly #errors = new EventSource<ConclaveError>();
  readonly #controller = new AbortController();
  readonly #cancels = new Set<Cancel>();
  #cancelExpiry: Cancel = () => {};
  #stopRenewing: () => void = () => {};
  #unbind: () => void = () => {};
  /** In the care of the thread. */
  #seat: Seat | undefined;
  #seenVersion = 0n;
  /** The last attempt to renew has failed. */
  #failing = false;
  #over: ConclaveError | undefined;
  #closing: Promise<void> | undefined;
  #revoking = false;

  constructor(context: SessionContext, terms: SessionTerms, opened: Opened) {
    this.#context = context;
    this.client = context.client;
    this.lease = opened.lease;
    this.id = hexId(opened.lease);
    this.terms = terms;
    this.onSuspend = terms.onSuspend ?? 'continue';
    this.meta = terms.meta ?? {};
    this.state$ = this.#states.observable;
    this.errors$ = this.#errors.observable;
    this.#opened = opened;
    this.#seat = opened.seat;
    this.#stopRenewing = () => opened.seat?.leave();
    this.#deadline = new Deadline(context.clock, opened.sentAt, opened.ttlMs - opened.lockDelayMs);
  }

  get ttlMs(): number {
    return this.#deadline.ttlMs;
  }

  get validUntilMs(): number {
    this.#look();
    return this.#deadline.validUntilMs;
  }

  get state(): SessionState {
    this.#look();
    return this.#states.value;
  }

  get signal(): AbortSignal {
    this.#look();
    return this.#controller.signal;
  }

  assertLive(): void {
    const state = this.state;
    if (this.#over !== undefined) throw this.#over;
    if (state === 'suspended' && this.#policy() !== 'continue') {
      throw new ConclaveError(
        'SESSION_SUSPENDED',
        `Session ${this.id} is suspended: its lease could not be renewed lately`,
      );
    }
  }

  reap(release: () => Promise<boolean>): void {
    void this.#reap(release);
  }

  /** Does so after a delay, if the session lives then. */
  reapAfter(delayMs: number, release: () => Promise<boolean>): void {
    void this.#sleep(delayMs).then(() => this.#reap(release));
  }

  /**
   * Ends the session as lost, for a reason that is not the store's. Others get in at once, or with a
   * lock-delay when the lease has run out: what was written last may still have to land.
   */
  #give(why: string): void {
    this.#look();
    if (this.#over !== undefined) return;
    const lost = this.#lost(why);
    if (this.#opened.lockDelayMs > 0) this.#end(lost);
    else void this.#revoke(lost);
  }

  /** Ends without revoking the lease. */
  abandon(): void {
    this.#end(this.#closed());
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /**
   * Resolves once renewals go on by themselves: with a thread that is when its first has succeeded.
   *
   * @throws ConclaveError ABORTED, or why the thread cannot renew
   */
  async startRenewing(signal?: AbortSignal): Promise<void> {
    this.#armExpiry();
    this.#unbind =
      this.terms.bound?.onceUnwell((reason) => this.#give(`its process is not well: ${reason}`)) ??
      this.#unbind;
    if (this.#over !== undefined) throw this.#over;
    if (this.#seat === undefined) this.#renewHere('in due time');
    else await this.#renewThere(this.#seat, signal);
  }

  #renewHere(start: 'at once' | 'in due time'): void {
    const { connection, clock } = this.#context;
    const renewal = new Renewal({
      connection,
      clock,
      lease: this.lease,
      lockDelayMs: this.#opened.lockDelayMs,
      deadline: this.#deadline,
      onRenewed: () => {
        this.#failing = false;
        this.#armExpiry();
        this.#look();
      },
      onFailed: (error) => {
        this.#failing = true;
        if (error) this.#errors.emit(error);
        this.#look();
      },
      onOver: (why) => {
        if (why === 'gone') this.#end(this.#forgotten());
        this.#look();
      },
    });
    this.#stopRenewing = () => renewal.stop();
    void renewal.run(start);
  }

  #renewThere(seat: Seat, signal: AbortSignal | undefined): Promise<void> {
    const { lockDelayMs, maxBlockMs } = this.#opened;
    return new Promise((resolve, reject) => {
      let lastFailure: ConclaveError | undefined;
      let answered = false;
      const settle = (error?: ConclaveError) => {
        answered = true;
        signal?.removeEventListener('abort', onAbort);
        if (error) reject(error);
        else resolve();
      };
      const onAbort = () => signal && settle(aborted(signal));
      signal?.addEventListener('abort', onAbort);
      this.#controller.signal.addEventListener('abort', () => {
        if (!answered) settle(lastFailure ?? this.#over);
      });
      seat.keep({
        lease: this.lease,
        ttlMs: this.ttlMs,
        ageMs: this.#deadline.ageMs,
        lockDelayMs,
        maxBlockMs,
        onNews: (failure) => {
          if (failure) {
            lastFailure = failure;
            this.#errors.emit(failure);
          }
          this.#look();
          if (seat.cells.version > 0n && !answered) settle();
        },
        onDeath: (error) => {
          this.#seat = undefined;
          if (this.#over !== undefined) return;
          if (!answered) {
            settle(error);
            return;
          }
          this.#errors.emit(error);
          // When the thread last succeeded may be long ago.
          this.#renewHere('at once');
        },
      });
    });
  }

  /** Brings the state up to the clock: timers may be late, or stand still with the process. */
  #look(): void {
    if (this.#over !== undefined) return;
    this.#learn();
    if (this.#over !== undefined) return;
    if (this.#deadline.remainingMs <= 0) {
      this.#end(this.#lost('its lease was not renewed in time'));
    } else if (this.#failing || this.#deadline.overdue) {
      this.#states.set('suspended');
    } else {
      this.#states.set('live');
    }
  }

  /** What the thread has done so far, also while this thread was blocked. */
  #learn(): void {
    const cells = this.#seat?.cells;
    if (cells === undefined) return;
    const { version } = cells;
    if (version !== this.#seenVersion) {
      const sentAt = cells.lastSentAt(this.#context.clock);
      if (sentAt) this.#deadline.renewed(sentAt, this.ttlMs);
      this.#seenVersion = version;
      this.#armExpiry();
    }
    const { condition } = cells;
    this.#failing = condition === 'failing';
    if (condition === 'gone') this.#end(this.#forgotten());
    else if (condition === 'late') this.#end(this.#lost('its lease was not renewed in time'));
  }

  #policy(): 'stop' | 'continue' {
    const { onSuspend } = this;
    if (typeof onSuspend !== 'function') return onSuspend;
    const { ageMs: unrenewedMs, remainingMs } = this.#deadline;
    return onSuspend({ unrenewedMs, remainingMs });
  }

  #closed(): ConclaveError {
    return new ConclaveError('CLOSED', `Session ${this.id} was closed`);
  }

  #forgotten(): ConclaveError {
    return this.#lost('the store does not know its lease any more');
  }

  #lost(why: string): ConclaveError {
    return new ConclaveError('SESSION_LOST', `Session ${this.id} is lost: ${why}`);
  }

  #end(reason: ConclaveError): void {
    if (this.#over !== undefined) return;
    this.#over = reason;
    this.#stopRenewing();
    this.#unbind();
    this.#cancelExpiry();
    for (const cancel of [...this.#cancels]) cancel();
    this.#states.set('lost');
    this.#states.complete();
    this.#controller.abort(reason);
    // Whoever revokes may still have errors to report.
    if (!this.#revoking) this.#errors.complete();
    this.#context.onEnd(this);
  }

  #armExpiry(): void {
    this.#cancelExpiry();
    this.#cancelExpiry = this.#context.clock.setTimer(
      Math.max(0, this.#deadline.remainingMs),
      () => {
        this.#look();
        if (this.#over === undefined) this.#armExpiry();
      },
      // This keeps the program alive until the session ends: who waits in it waits for a watch or a
      // retry, and a connection that is idle would let Node exit.
      true,
    );
  }

  async #reap(release: () => Promise<boolean>): Promise<void> {
    const { retry, random } = this.#context.connection;
    for (let attempt = 0; this.#over === undefined; attempt++) {
      try {
        if (await release()) return;
      } catch (error) {
        this.#report(error);
      }
      await this.#sleep(backoffMs(retry, attempt, random));
      this.#look();
    }
  }

  async #close(): Promise<void> {
    this.#look();
    if (this.#over !== undefined) return;
    await this.#revoke(this.#closed());
  }

  /** Ends the session, then revokes its lease. */
  async #revoke(reason: ConclaveError): Promise<void> {
    const timeoutMs = Math.min(revokeTimeoutMs, this.#deadline.remainingMs);
    this.#revoking = true;
    this.#end(reason);
    try {
      await this.client.leases.revoke(this.lease, { timeout: timeoutMs });
    } catch (error) {
      if (!isConclaveError(error, 'LEASE_NOT_FOUND')) this.#report(error);
    } finally {
      this.#errors.complete();
    }
  }

  #report(error: unknown): void {
    this.#errors.emit(
      isConclaveError(error)
        ? error
        : new ConclaveError('INTERNAL', error instanceof Error ? error.message : String(error), {
            cause: error,
          }),
    );
  }

  /** Ends early when the session does. */
  #sleep(delayMs: number): Promise<void> {
    if (this.#over !== undefined) return Promise.resolve();
    return new Promise((resolve) => {
      const done = () => {
        this.#cancels.delete(done);
        cancel();
        resolve();
      };
      const cancel = this.#context.clock.setTimer(delayMs, done);
      this.#cancels.add(done);
    });
  }
}
