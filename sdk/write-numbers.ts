/**
 * The numbers of writes. A conclave server remembers what became of every numbered write, so one whose
 * answer was lost may be sent again, to any member: it is applied once, and the first answer comes back.
 *
 * A number is a pair: a client, which the server registers, and a sequence number of that client. The
 * client tells how far it has all its answers (the floor); below that the server forgets. The distance
 * from the floor to the newest number is bounded, as the server's memory is.
 */
import { Status } from 'nice-grpc-common';
import type { Cancel, Clock } from './clock.ts';
import type { Link } from './link.ts';
import { isUnimplemented, TransportFailure, type WriteNumber } from './transport.ts';
import { closedFailure } from './transport-unary.ts';

/** A number in use; to be released when its write will not be sent again. */
export type HeldNumber = WriteNumber & { release(): void };

export type TakeOptions = {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
};

/** The most that is used of what a server allows, and all that is used where it does not say. */
const windowLimit = 8_192;

/**
 * How long after its first sending a write may be sent again. The server forgets a client 900 s after
 * the last write it applied for it; members may disagree about time, but not by this much.
 */
export const memoryMs = 300_000;

/** Gets a number, or undefined when there will be none from this registration. */
type Waiter = (number: HeldNumber | undefined) => void;

class Registered {
  readonly id: bigint;
  readonly #window: number;
  #next = 1;
  #floor = 1;
  /** Released, above the floor. */
  readonly #released = new Set<number>();
  /** In the order they came; there are some only while the window is full. */
  readonly #waiting = new Set<Waiter>();
  /** Goes on where it was, so that those who left are passed by once. */
  #nextWaiting = this.#waiting.values();
  #forgotten = false;

  constructor(id: bigint, window: number) {
    this.id = id;
    this.#window = window;
  }

  /** Undefined while the window is full. */
  take(): HeldNumber | undefined {
    if (this.#next - this.#floor >= this.#window) return undefined;
    const sequence = this.#next;
    this.#next += 1;
    return new Held(this, sequence);
  }

  get floor(): number {
    return this.#floor;
  }

  get isForgotten(): boolean {
    return this.#forgotten;
  }

  forget(): void {
    this.#forgotten = true;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const waiter of waiting) waiter(undefined);
  }

  /** Called back once, unless cancelled. */
  wait(waiter: Waiter): Cancel {
    this.#waiting.add(waiter);
    return () => this.#waiting.delete(waiter);
  }

  release(sequence: number): void {
    this.#released.add(sequence);
    while (this.#released.delete(this.#floor)) this.#floor += 1;
    while (this.#waiting.size > 0) {
      const number = this.take();
      if (number === undefined) return;
      this.#firstWaiting()?.(number);
    }
  }

  /** Takes it off the line; there must be one. */
  #firstWaiting(): Waiter | undefined {
    let first = this.#nextWaiting.next();
    if (first.done) {
      this.#nextWaiting = this.#waiting.values();
      first = this.#nextWaiting.next();
    }
    if (first.done) return undefined;
    this.#waiting.delete(first.value);
    return first.value;
  }
}

class Held implements HeldNumber {
  readonly #registered: Registered;
  readonly #number: number;
  #isHeld = true;

  constructor(registered: Registered, number: number) {
    this.#registered = registered;
    this.#number = number;
  }

  get client(): bigint {
    return this.#registered.id;
  }

  get sequence(): bigint {
    return BigInt(this.#number);
  }

  floor(): bigint {
    return BigInt(this.#registered.floor);
  }

  release(): void {
    if (this.#isHeld) this.#registered.release(this.#number);
    this.#isHeld = false;
  }
}

export class WriteNumbers {
  readonly #clock: Clock;
  readonly #registrationTimeoutMs: number;
  #registered: Registered | undefined;
  /** Where it was registered. */
  #home: Link | undefined;
  readonly #registering = new Map<Link, Promise<Registered | undefined>>();
  /** Registered, but not used: another registration was faster, or this one's link was left. */
  readonly #spare = new Set<bigint>();
  #closed = false;

  constructor(clock: Clock, registrationTimeoutMs: number) {
    this.#clock = clock;
    this.#registrationTimeoutMs = registrationTimeoutMs;
  }

  /** A number for one write, if one can be had without waiting. */
  takeNow(link: Link): HeldNumber | undefined {
    return link.withoutNumbers ? undefined : this.#registered?.take();
  }

  /**
   * A number for one write, registering first if need be: this costs the first write one exchange more.
   * Undefined where the link takes none.
   *
   * @throws TransportFailure, never `sent`: the write was not
   */
  async take(link: Link, options: TakeOptions): Promise<HeldNumber | undefined> {
    const deadlineMs = this.#clock.monotonicMs() + options.timeoutMs;
    while (!link.withoutNumbers) {
      // Nobody would say goodbye for a registration from now on.
      if (this.#closed) throw closedFailure(false);
      const timeoutMs = Math.max(0, deadlineMs - this.#clock.monotonicMs());
      const registered = this.#registered;
      if (registered === undefined) {
        await this.#bounded(this.#register(link), { ...options, timeoutMs });
        continue;
      }
      const number =
        registered.take() ?? (await this.#waitFor(registered, { ...options, timeoutMs }));
      if (number !== undefined) return number;
    }
    return undefined;
  }

  /** The server does not know this client any more: the next write registers anew. */
  forget(client: bigint): void {
    if (this.#registered?.id !== client) return;
    this.#registered.forget();
    this.#registered = undefined;
  }

  /**
   * Tells the server that no write will be sent again. It would find out by itself, in time.
   *
   * @param timeoutMs for registrations under way, and again for the goodbye
   */
  async close(link: Link | undefined, timeoutMs: number): Promise<void> {
    this.#closed = true;
    if (this.#registering.size > 0) {
      const registering = Promise.allSettled(this.#registering.values());
      await this.#bounded(registering, { timeoutMs }).catch(() => undefined);
    }
    const registered = this.#registered;
    if (registered !== undefined) {
      this.forget(registered.id);
      this.#spare.add(registered.id);
    }
    await this.#dismissSpare(link, timeoutMs);
  }

  /** What does not get through stays on the server until its time is over there. */
  async #dismissSpare(link: Link | undefined, timeoutMs: number): Promise<void> {
    if (link === undefined) return;
    const clients = [...this.#spare];
    this.#spare.clear();
    const dismiss = async (clientId: bigint): Promise<void> => {
      try {
        await link.unary('clientForget', { clientId }, { timeoutMs });
      } catch (failure) {
        // The link was left by now: there will be another, at the latest for the goodbye.
        if (failure instanceof TransportFailure && !failure.sent) this.#spare.add(clientId);
      }
    };
    await Promise.all(clients.map(dismiss));
  }

  #dismiss(client: bigint): void {
    this.#spare.add(client);
    void this.#dismissSpare(this.#home, this.#registrationTimeoutMs);
  }

  #register(link: Link): Promise<Registered | undefined> {
    const running = this.#registering.get(link);
    if (running !== undefined) return running;
    const registration = this.#registerOn(link).finally(() => this.#registering.delete(link));
    this.#registering.set(link, registration);
    return registration;
  }

  async #registerOn(link: Link): Promise<Registered | undefined> {
    try {
      const timeoutMs = this.#registrationTimeoutMs;
      const response = await link.unary(
        'clientRegister',
        {},
        { timeoutMs, movable: true, late: ({ clientId }) => this.#dismiss(clientId) },
      );
      if (this.#registered !== undefined) {
        this.#dismiss(response.clientId);
        return this.#registered;
      }
      const window = response.window === 0 ? windowLimit : Math.min(response.window, windowLimit);
      this.#registered = new Registered(response.clientId, window);
      this.#home = link;
      void this.#dismissSpare(link, timeoutMs);
      return this.#registered;
    } catch (failure) {
      if (!(failure instanceof TransportFailure)) throw failure;
      if (failure.kind === 'unnumbered' || isUnimplemented(failure)) {
        link.withoutNumbers = true;
        return undefined;
      }
      // What is lost is a registration, not a write.
      const { kind, status, details } = failure;
      throw new TransportFailure(
        kind === 'timeout' ? 'status' : kind,
        kind === 'timeout' ? Status.UNAVAILABLE : status,
        details,
        false,
        { cause: failure },
      );
    }
  }

  /** Undefined when the server has forgotten the client. */
  async #waitFor(registered: Registered, options: TakeOptions): Promise<HeldNumber | undefined> {
    if (registered.isForgotten) return undefined;
    let cancel: Cancel = () => {};
    const given = new Promise<HeldNumber | undefined>((resolve) => {
      cancel = registered.wait(resolve);
    });
    return this.#bounded(given, options, cancel);
  }

  /** @param giveUp called in the very moment in which the wait ends without a result */
  async #bounded<T>(
    work: Promise<T>,
    { timeoutMs, signal }: TakeOptions,
    giveUp: () => void = () => {},
  ): Promise<T> {
    let cleanUp = () => {};
    const ended = new Promise<never>((_, reject) => {
      const onAbort = () => {
        giveUp();
        reject(new TransportFailure('aborted', Status.CANCELLED, 'aborted', false));
      };
      const cancelTimer = this.#clock.setTimer(
        timeoutMs,
        () => {
          giveUp();
          const text = `No number for a write within ${Math.ceil(timeoutMs)} ms`;
          reject(new TransportFailure('timeout', Status.DEADLINE_EXCEEDED, text, false));
        },
        true,
      );
      signal?.addEventListener('abort', onAbort);
      if (signal?.aborted) onAbort();
      cleanUp = () => {
        cancelTimer();
        signal?.removeEventListener('abort', onAbort);
      };
    });
    try {
      return await Promise.race([work, ended]);
    } finally {
      cleanUp();
      work.catch(() => undefined);
    }
  }
}
