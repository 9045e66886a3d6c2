/**
 * The connection of a client: always one link in use, replaced when it breaks, and the calls that
 * travel over whichever link is there. Reads are repeated; a write is repeated only when it certainly
 * had no effect.
 */
import type { ClientEvent, Logger } from './client.ts';
import { type Endpoint, Rotation } from './endpoints.ts';
import { aborted, ConclaveError, isConclaveError, throwIfAborted } from './errors.ts';
import { judge } from './failures.ts';
import { Link, type LinkOptions } from './link.ts';
import {
  type Effect,
  type MethodName,
  methods,
  type RequestOf,
  type ResponseOf,
} from './methods.ts';
import { EventSource } from './observe.ts';
import { backoffMs, type RetryPolicy, repeat } from './retry.ts';
import type { TransportFailure } from './transport.ts';

export type ConnectionOptions = {
  readonly endpoints: readonly Endpoint[];
  readonly link: LinkOptions;
  readonly retry: RetryPolicy;
  readonly requestTimeoutMs: number;
  readonly random: () => number;
  readonly logger: Logger | undefined;
  /**
   * Runs when nobody answers at an endpoint: the embedded store then sees to it that somebody will.
   * Resolves with what stands in the way for now; rejects with what waiting does not change.
   */
  readonly provide?: (() => Promise<ConclaveError | undefined>) | undefined;
};

export type CallSettings = {
  readonly signal?: AbortSignal | undefined;
  /** @default the connection's request timeout */
  readonly timeoutMs?: number | undefined;
  /** @default by method */
  readonly effect?: Effect | undefined;
  /** Told when an attempt that may have taken effect is about to be repeated. */
  readonly onAmbiguous?: () => void;
};

type Waiter = {
  readonly resolve: (link: Link) => void;
  readonly reject: (error: ConclaveError) => void;
};

/** How long one endpoint may take to accept a connection before the next is tried. */
const connectAttemptMs = 2_000;

export class Connection {
  readonly requestTimeoutMs: number;
  readonly random: () => number;
  readonly retry: RetryPolicy;
  readonly events = new EventSource<ClientEvent>();
  readonly #options: ConnectionOptions;
  readonly #rotation: Rotation;
  readonly #waiters = new Set<Waiter>();
  readonly #listeners = new Set<() => void>();
  #active: Link | undefined;
  #connecting = false;
  #lastError: ConclaveError | undefined;
  /** What `provide` found in the way: says more than that nobody answers. */
  #obstacle: ConclaveError | undefined;
  #lastEndpoint: Endpoint | undefined;
  #wakeBackoff: (() => void) | undefined;
  #closed = false;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.requestTimeoutMs = options.requestTimeoutMs;
    this.random = options.random;
    this.retry = options.retry;
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
        const timer = setTimeout(() => reject(this.#unreachable(timeoutMs)), timeoutMs);
        signal?.addEventListener('abort', onAbort);
        this.#waiters.add(waiter);
        cleanUp = () => {
          clearTimeout(timer);
          signal?.removeEventListener('abort', onAbort);
          this.#waiters.delete(waiter);
        };
      });
    } finally {
      cleanUp();
    }
  }

  /** Makes a call, as often as is safe and the time allows. */
  async call<M extends MethodName>(
    method: M,
    request: RequestOf<M>,
    settings: CallSettings = {},
  ): Promise<ResponseOf<M>> {
    const { signal, onAmbiguous } = settings;
    const effect = settings.effect ?? methods[method].effect;
    const deadline = performance.now() + (settings.timeoutMs ?? this.requestTimeoutMs);
    const remainingMs = () => Math.max(0, deadline - performance.now());
    let again = false;
    let ambiguous = false;
    const attempt = async (): Promise<ResponseOf<M>> => {
      again = false;
      const link = this.#active ?? (await this.link(remainingMs(), signal));
      try {
        return await link.unary(method, request, { signal, timeoutMs: remainingMs() });
      } catch (failure) {
        if (this.#closed) throw closedError(judge(failure, effect, signal, ambiguous).error);
        const verdict = judge(failure, effect, signal, ambiguous);
        again = verdict.again;
        if (again && effect === 'repeatable' && (failure as TransportFailure).sent) {
          ambiguous = true;
          onAmbiguous?.();
        }
        if (verdict.elsewhere && this.endpoints.length > 1) this.abandon(link, verdict.error);
        throw verdict.error;
      }
    };
    try {
      return await attempt();
    } catch (error) {
      if (!again) throw error;
    }
    const policy = this.retry;
    return repeat(attempt, { policy, again: () => again, budgetMs: remainingMs(), signal });
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
    return new Link(this.#rotation.named(endpoint), this.#options.link);
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

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    const link = this.#active;
    this.#active = undefined;
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
    for (let round = 0; !this.#closed; round++) {
      for (let index = 0; index < this.endpoints.length && !this.#closed; index++) {
        if (await this.#tryConnect(this.#rotation.next())) return;
      }
      await this.#backoff(backoffMs(this.retry, round, this.random));
    }
  }

  async #tryConnect(endpoint: Endpoint): Promise<boolean> {
    if (await this.#connectTo(endpoint)) return true;
    const { provide } = this.#options;
    if (provide === undefined || this.#closed) return this.#closed;
    try {
      this.#obstacle = await provide();
    } catch (error) {
      this.#failed(endpoint, error);
      // Waiting would not help: the store itself refuses.
      if (isConclaveError(error)) for (const waiter of [...this.#waiters]) waiter.reject(error);
      return false;
    }
    return this.#connectTo(endpoint);
  }

  async #connectTo(endpoint: Endpoint): Promise<boolean> {
    let link: Link | undefined;
    try {
      link = new Link(endpoint, this.#options.link);
      await link.connected(connectAttemptMs);
    } catch (error) {
      link?.close();
      this.#failed(endpoint, error);
      return false;
    }
    if (this.#closed) link.close();
    else this.#activate(link);
    return true;
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
        clearTimeout(timer);
        this.#wakeBackoff = undefined;
        resolve();
      };
      const timer = setTimeout(done, delayMs);
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

export const closedError = (cause?: ConclaveError): ConclaveError =>
  new ConclaveError('CLOSED', 'The client is closed', {
    cause,
    outcome: cause?.outcome ?? 'not-applied',
  });
