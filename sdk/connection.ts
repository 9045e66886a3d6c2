/**
 * The connection of a client: always one link in use, replaced when it breaks or its member falls
 * silent, and the calls that travel over whichever link is there.
 */
import type { ClientEvent, Logger } from './client.ts';
import type { Cancel, Clock } from './clock.ts';
import { Dialing } from './dialing.ts';
import { type Endpoint, Rotation } from './endpoints.ts';
import { aborted, ConclaveError, closedError, isConclaveError, throwIfAborted } from './errors.ts';
import { judge } from './failures.ts';
import { Link } from './link.ts';
import { type MethodName, methods, type RequestOf, type ResponseOf } from './methods.ts';
import { EventSource } from './observe.ts';
import { type CallSettings, PersistentCall } from './persistent-call.ts';
import { watchPulse } from './pulse.ts';
import { paceMs, type RetryPolicy } from './retry.ts';
import type { OpenTransport } from './transport.ts';
import { WriteNumbers } from './write-numbers.ts';

export type ConnectionOptions = {
  readonly endpoints: readonly Endpoint[];
  readonly openTransport: OpenTransport;
  readonly clock: Clock;
  readonly retry: RetryPolicy;
  readonly requestTimeoutMs: number;
  readonly random: () => number;
  readonly logger: Logger | undefined;
  /**
   * Runs when nobody answers at an endpoint: the embedded store then sees to it that somebody will.
   * Resolves with what stands in the way and may pass; rejects with what waiting does not change.
   */
  readonly provide?: (() => Promise<ConclaveError | undefined>) | undefined;
};

type Waiter = {
  readonly resolve: (link: Link) => void;
  readonly reject: (error: ConclaveError) => void;
};

/** How long one endpoint may take to accept a connection before the next is tried. */
const connectAttemptMs = 2_000;
/** A client that is closed does not wait longer than this to say so. */
const farewellMs = 250;
/** How long the next endpoint waits for the one before it. */
const staggerMs = 200;

export class Connection {
  readonly requestTimeoutMs: number;
  readonly clock: Clock;
  readonly random: () => number;
  readonly retry: RetryPolicy;
  readonly events = new EventSource<ClientEvent>();
  readonly #options: ConnectionOptions;
  readonly #rotation: Rotation;
  readonly #numbers: WriteNumbers;
  readonly #waiters = new Set<Waiter>();
  readonly #listeners = new Set<() => void>();
  #active: Link | undefined;
  #connecting = false;
  #lastError: ConclaveError | undefined;
  /** What `provide` found in the way: says more than that nobody answers. */
  #obstacle: ConclaveError | undefined;
  #lastEndpoint: Endpoint | undefined;
  #wakeBackoff: (() => void) | undefined;
  #dialing: Dialing | undefined;
  #stopPulse: Cancel = () => {};
  #closed = false;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.requestTimeoutMs = options.requestTimeoutMs;
    this.clock = options.clock;
    this.random = options.random;
    this.retry = options.retry;
    this.#numbers = new WriteNumbers(options.clock, options.requestTimeoutMs);
    this.#rotation = new Rotation(options.endpoints, options.random);
    this.#connect();
  }

  get endpoints(): readonly Endpoint[] {
    return this.#rotation.endpoints;
  }

  /** The link in use, if one stands. */
  get active(): Link | undefined {
    return this.#active;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Calls back whenever the active link comes, goes or changes. Returns the way to stop that. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * The link in use, waiting for one if need be.
   *
   * @throws ConclaveError UNREACHABLE after `timeoutMs`, ABORTED, CLOSED
   */
  async link(timeoutMs: number, signal?: AbortSignal): Promise<Link> {
    if (this.#closed) throw closedError();
    throwIfAborted(signal);
    if (this.#active !== undefined) return this.#active;
    let cleanUp = () => {};
    try {
      return await new Promise<Link>((resolve, reject) => {
        const waiter: Waiter = { resolve, reject };
        const onAbort = () => signal !== undefined && reject(aborted(signal));
        const cancelTimer = this.clock.setTimer(
          timeoutMs,
          () => reject(this.#unreachable(timeoutMs)),
          true,
        );
        signal?.addEventListener('abort', onAbort);
        this.#waiters.add(waiter);
        cleanUp = () => {
          cancelTimer();
          signal?.removeEventListener('abort', onAbort);
          this.#waiters.delete(waiter);
        };
      });
    } finally {
      cleanUp();
    }
  }

  /** Makes a call, as often as is safe and the time allows. */
  call<M extends MethodName>(
    method: M,
    request: RequestOf<M>,
    settings: CallSettings = {},
  ): Promise<ResponseOf<M>> {
    return new PersistentCall(this, this.#numbers, method, request, settings).run();
  }

  /** One call to one member, on a link of its own. */
  async callMember<M extends MethodName>(
    endpoint: string,
    method: M,
    request: RequestOf<M>,
    settings: CallSettings = {},
  ): Promise<ResponseOf<M>> {
    const { signal } = settings;
    const timeoutMs = settings.timeoutMs ?? this.requestTimeoutMs;
    const link = this.ownLink(endpoint);
    try {
      await link.connected(timeoutMs);
      return await link.unary(method, request, { signal, timeoutMs });
    } catch (failure) {
      throw judge(failure, settings.effect ?? methods[method].effect, signal).error;
    } finally {
      link.close();
    }
  }

  /**
   * A link to this endpoint, the caller's to close.
   *
   * @throws ConclaveError CLOSED, and INVALID_ARGUMENT when the client has no such endpoint
   */
  ownLink(endpoint: string): Link {
    if (this.#closed) throw closedError();
    return this.#open(this.#rotation.named(endpoint));
  }

  /** Leaves a link that still stands, because its member cannot serve us; the next one is tried. */
  abandon(link: Link, error?: ConclaveError): void {
    if (this.#active === link) this.#lose(error);
    link.retire();
  }

  /** Leaves a link that is suspected dead: everything in flight on it fails now. */
  suspect(link: Link, error: ConclaveError): void {
    if (this.#active === link) this.#lose(error);
    link.close();
  }

  /** Tells the server that no write of this client will come again; to be called before `close`. */
  async farewell(): Promise<void> {
    await this.#numbers.close(this.#active, farewellMs);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    const link = this.#active;
    this.#active = undefined;
    this.#stopPulse();
    this.#dialing?.stop();
    link?.close();
    this.#wakeBackoff?.();
    for (const waiter of [...this.#waiters]) waiter.reject(closedError());
    this.#notify();
    this.events.complete();
  }

  #connect(): void {
    if (this.#connecting || this.#closed || this.#active !== undefined) return;
    this.#connecting = true;
    void this.#connectSafely().then(() => {
      this.#connecting = false;
      // The new link may have broken before this ran.
      this.#connect();
    });
  }

  /** Never rejects, and after a defect waits: `#connect` goes on at once. */
  async #connectSafely(): Promise<void> {
    try {
      await this.#connectUntilDone();
    } catch (error) {
      this.#lastError = judge(error, 'read').error;
      this.#options.logger?.warn({ err: error }, 'connecting failed');
      await this.#backoff(this.retry.maxDelayMs);
    }
  }

  async #connectUntilDone(): Promise<void> {
    const sinceMs = this.clock.monotonicMs();
    for (let round = 0; !this.#closed; round++) {
      if (await this.#tryConnect()) return;
      const troubleMs = this.clock.monotonicMs() - sinceMs;
      if (!this.#closed) await this.#backoff(paceMs(this.retry, round, troubleMs, this.random));
    }
  }

  async #tryConnect(): Promise<boolean> {
    if (await this.#dial()) return true;
    const { provide } = this.#options;
    if (provide === undefined || this.#closed) return false;
    try {
      this.#obstacle = await provide();
    } catch (error) {
      for (const endpoint of this.endpoints) this.#failed(endpoint, error);
      // Waiting would not help: the store itself refuses.
      if (isConclaveError(error)) for (const waiter of [...this.#waiters]) waiter.reject(error);
      return false;
    }
    return this.#dial();
  }

  async #dial(): Promise<boolean> {
    if (this.#closed) return false;
    const dialing = new Dialing(this.#rotation.round(), {
      clock: this.clock,
      open: (endpoint) => this.#open(endpoint),
      attemptMs: connectAttemptMs,
      staggerMs,
      onFailure: (endpoint, error) => this.#failed(endpoint, error),
    });
    this.#dialing = dialing;
    const link = await dialing.run();
    this.#dialing = undefined;
    if (link === undefined) return false;
    if (this.#closed) link.close();
    else this.#activate(link);
    return true;
  }

  #open(endpoint: Endpoint): Link {
    const { openTransport, clock } = this.#options;
    return new Link(endpoint, { openTransport, clock });
  }

  #failed(endpoint: Endpoint, error: unknown): void {
    this.#lastError = isConclaveError(error) ? error : judge(error, 'read').error;
    this.#options.logger?.debug({ endpoint: endpoint.name, err: error }, 'cannot connect');
  }

  #activate(link: Link): void {
    this.#active = link;
    this.#lastError = undefined;
    this.#obstacle = undefined;
    const { endpoint } = link;
    this.#rotation.used(endpoint);
    if (this.endpoints.length > 1) {
      this.#stopPulse = watchPulse(link, {
        clock: this.clock,
        onSilence: (failure) => this.suspect(link, judge(failure, 'read').error),
      });
    }
    if (this.#lastEndpoint !== undefined && this.#lastEndpoint !== endpoint) {
      this.events.emit({ type: 'endpoint', endpoint: endpoint.name });
    }
    this.#lastEndpoint = endpoint;
    this.events.emit({ type: 'connected', endpoint: endpoint.name });
    for (const waiter of [...this.#waiters]) waiter.resolve(link);
    this.#notify();
    void link.broken().then(() => this.abandon(link));
  }

  #lose(error?: ConclaveError): void {
    const link = this.#active;
    if (link === undefined) return;
    this.#active = undefined;
    this.#stopPulse();
    if (error !== undefined) this.#lastError = error;
    const endpoint = link.endpoint.name;
    this.#options.logger?.warn({ endpoint, err: error }, 'connection lost, looking for another');
    this.events.emit({ type: 'disconnected', endpoint, ...(error === undefined ? {} : { error }) });
    this.#notify();
    this.#connect();
  }

  #notify(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  #backoff(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        cancelTimer();
        this.#wakeBackoff = undefined;
        resolve();
      };
      const cancelTimer = this.clock.setTimer(delayMs, done, true);
      this.#wakeBackoff = done;
    });
  }

  #unreachable(timeoutMs: number): ConclaveError {
    const names = this.endpoints.map(({ name }) => name).join(', ');
    const cause = this.#obstacle ?? this.#lastError;
    const why = cause === undefined ? '' : `: ${cause.message}`;
    return new ConclaveError(
      'UNREACHABLE',
      `No endpoint of ${names} was reached within ${Math.ceil(timeoutMs)} ms${why}`,
      { cause, ...(this.endpoints.some(({ tls }) => tls) ? { remedy: tlsRemedy } : {}) },
    );
  }
}

/** A failed handshake looks like a refused connection from here. */
const tlsRemedy =
  'Check that a server listens there, that it speaks TLS (without it: http:// or host:port) and that its certificate is trusted (tls.ca).';
