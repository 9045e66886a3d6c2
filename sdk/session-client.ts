/** Sessions over a connection: renewing, noticing, ending. */
import type { Client } from './client.ts';
import type { Cancel, Clock } from './clock.ts';
import type { Connection } from './connection.ts';
import { ConclaveError, invalidArgument, isConclaveError, throwIfAborted } from './errors.ts';
import { judge } from './failures.ts';
import { EventSource, type Observable, StateSource } from './observe.ts';
import { parseDuration } from './options.ts';
import { backoffMs } from './retry.ts';
import type { Session, SessionOptions, SessionState } from './session.ts';
import { Deadline, elapsedMs, type Instant, instantOf } from './session-deadline.ts';

export type SessionContext = {
  readonly client: Client;
  readonly connection: Connection;
  readonly clock: Clock;
  /** Told once when the session has ended, whichever way. */
  readonly onEnd: (session: LeaseSession) => void;
};

type Opened = {
  readonly lease: bigint;
  readonly sentAt: Instant;
  readonly ttlMs: number;
  readonly lockDelayMs: number;
};

/** A lease that cannot be revoked expires by itself; nobody need wait for it. */
const revokeTimeoutMs = 2_000;

export const openSession = async (
  context: SessionContext,
  options: SessionOptions = {},
): Promise<LeaseSession> => {
  const ttlMs = parseDuration(options.ttl ?? '15s', 'ttl');
  const lockDelayMs = parseDuration(options.lockDelay ?? 0, 'lockDelay');
  if (ttlMs <= 0) throw invalidArgument('ttl', options.ttl, 'more than 0');
  const { onSuspend } = options;
  if (onSuspend !== undefined && onSuspend !== 'stop' && onSuspend !== 'continue') {
    throw invalidArgument('onSuspend', onSuspend, "'stop' or 'continue'");
  }
  throwIfAborted(options.signal);
  const call = options.signal === undefined ? {} : { signal: options.signal };
  const { leases } = context.client;
  const sentAt = instantOf(context.clock);
  if (options.id === undefined) {
    const granted = await leases.grant(ttlMs + lockDelayMs, call);
    return start(context, options, {
      lease: granted.id,
      sentAt,
      ttlMs: granted.ttlMs,
      lockDelayMs,
    });
  }
  const renewed = await leases.keepAlive(options.id, call);
  if (renewed.ttlMs <= lockDelayMs) {
    throw new ConclaveError(
      'SESSION_LOST',
      `Session ${options.id.toString(16)} cannot be taken over: its lease is gone`,
    );
  }
  return start(context, options, { lease: options.id, sentAt, ttlMs: renewed.ttlMs, lockDelayMs });
};

const start = (context: SessionContext, options: SessionOptions, opened: Opened): LeaseSession => {
  const session = new LeaseSession(context, options, opened);
  session.startRenewing();
  return session;
};

export class LeaseSession implements Session {
  readonly client: Client;
  readonly lease: bigint;
  readonly id: string;
  readonly onSuspend: 'stop' | 'continue';
  readonly meta: Readonly<Record<string, string>>;
  readonly state$: Observable<SessionState>;
  readonly errors$: Observable<ConclaveError>;
  readonly #context: SessionContext;
  readonly #lockDelayMs: number;
  readonly #deadline: Deadline;
  readonly #states = new StateSource<SessionState>('live');
  readonly #errors = new EventSource<ConclaveError>();
  readonly #controller = new AbortController();
  readonly #cancels = new Set<Cancel>();
  #cancelExpiry: Cancel = () => {};
  /** A renewal failed since the last that succeeded. */
  #failures = 0;
  #over: ConclaveError | undefined;
  #closing: Promise<void> | undefined;
  #revoking = false;

  constructor(context: SessionContext, options: SessionOptions, opened: Opened) {
    this.#context = context;
    this.client = context.client;
    this.lease = opened.lease;
    this.id = BigInt.asUintN(64, opened.lease).toString(16);
    this.onSuspend = options.onSuspend ?? 'continue';
    this.meta = options.meta ?? {};
    this.state$ = this.#states.observable;
    this.errors$ = this.#errors.observable;
    this.#lockDelayMs = opened.lockDelayMs;
    this.#deadline = new Deadline(context.clock, opened.sentAt, opened.ttlMs - opened.lockDelayMs);
  }

  get ttlMs(): number {
    return this.#deadline.ttlMs;
  }

  get validUntilMs(): number {
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
    if (state === 'suspended' && this.onSuspend === 'stop') {
      throw new ConclaveError(
        'SESSION_SUSPENDED',
        `Session ${this.id} is suspended: its lease could not be renewed lately`,
      );
    }
  }

  reap(release: () => Promise<boolean>): void {
    void this.#reap(release);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  startRenewing(): void {
    this.#armExpiry();
    void this.#renewUntilOver();
  }

  /** Brings the state up to the clock: timers may be late, or stand still with the process. */
  #look(): void {
    if (this.#over !== undefined) return;
    if (this.#deadline.remainingMs <= 0) {
      this.#end(this.#lost('its lease was not renewed in time'));
    } else if (this.#failures > 0 || this.#deadline.overdue) {
      this.#states.set('suspended');
    } else {
      this.#states.set('live');
    }
  }

  #lost(why: string): ConclaveError {
    return new ConclaveError('SESSION_LOST', `Session ${this.id} is lost: ${why}`);
  }

  #end(reason: ConclaveError): void {
    if (this.#over !== undefined) return;
    this.#over = reason;
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
    );
  }

  async #renewUntilOver(): Promise<void> {
    const { random, retry } = this.#context.connection;
    for (;;) {
      const third = this.ttlMs / 3;
      const delayMs =
        this.#failures === 0
          ? third * (0.8 + 0.2 * random())
          : Math.min(third, backoffMs(retry, this.#failures, random));
      await this.#sleep(delayMs);
      this.#look();
      if (this.#over !== undefined) return;
      await this.#renew();
      this.#look();
      if (this.#over !== undefined) return;
    }
  }

  /**
   * One attempt. It is given a third of the TTL, the wait for a link included, so that another one
   * fits in before the deadline.
   */
  async #renew(): Promise<void> {
    const { connection, clock } = this.#context;
    const limitMs = Math.max(1, Math.min(this.ttlMs / 3, this.#deadline.remainingMs));
    const startedAt = instantOf(clock);
    try {
      const link = await connection.link(limitMs, this.#controller.signal);
      const sentAt = instantOf(clock);
      const timeoutMs = Math.max(1, limitMs - elapsedMs(clock, startedAt));
      const request = { ID: this.lease };
      const { signal } = this.#controller;
      let response: { readonly TTL: bigint };
      try {
        response = await link.unary('leaseKeepAlive', request, { signal, timeoutMs });
      } catch (failure) {
        const { error, elsewhere } = judge(failure, 'read', signal);
        // A link that does not answer in this time is no use to a session. One that came late had
        // less: it is asked again.
        const wasPatient = timeoutMs >= limitMs / 2;
        if (wasPatient && isConclaveError(error, 'TIMEOUT')) connection.suspect(link, error);
        else if (elsewhere && connection.endpoints.length > 1) connection.abandon(link, error);
        throw error;
      }
      this.#renewed(sentAt, Number(response.TTL) * 1_000 - this.#lockDelayMs);
    } catch (error) {
      if (this.#over !== undefined) return;
      this.#failures += 1;
      if (isConclaveError(error)) this.#errors.emit(error);
    }
  }

  #renewed(sentAt: Instant, ttlMs: number): void {
    if (this.#over !== undefined) return;
    if (ttlMs <= 0) {
      this.#end(this.#lost('the store does not know its lease any more'));
      return;
    }
    this.#failures = 0;
    this.#deadline.renewed(sentAt, ttlMs);
    this.#armExpiry();
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
    const timeoutMs = Math.min(revokeTimeoutMs, this.#deadline.remainingMs);
    this.#revoking = true;
    this.#end(new ConclaveError('CLOSED', `Session ${this.id} was closed`));
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
