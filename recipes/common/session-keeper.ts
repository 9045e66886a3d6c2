/**
 * A session for parts that must outlive one: a worker, a registration, a leader loop. When the
 * session it started with is lost, it opens another of the same kind.
 */
import type { Client } from '../../sdk/client.ts';
import { ConclaveError, isConclaveError } from '../../sdk/errors.ts';
import type { Session } from '../../sdk/session.ts';
import { fullJitterMs, mayRepeat, pause } from './repeat.ts';
import { expectManyListeners, unlessAborted } from './signals.ts';

/** The first wait before a new session: spreads the clients that lost theirs in the same outage. */
const reopenSpreadMs = 500;

export class SessionKeeper {
  readonly #origin: Session;
  readonly #closing = new AbortController();
  #session: Session | undefined;
  #opening: Promise<Session> | undefined;
  #ending: Promise<void> | undefined;

  /** @param start whether to use `origin` itself for as long as it lives, or a new session at once */
  constructor(origin: Session, start: 'shared' | 'separate') {
    this.#origin = origin;
    expectManyListeners(this.#closing.signal);
    if (start === 'shared') this.#session = origin;
  }

  get client(): Client {
    return this.#origin.client;
  }

  /**
   * The current session, or a new one once the store grants it.
   *
   * @throws ConclaveError CLOSED after `close()` or when the session it started with was closed on
   *   purpose, ABORTED, or what the store refuses for good
   */
  async live(signal?: AbortSignal): Promise<Session> {
    const isOver = isConclaveError(this.#origin.signal.reason, 'CLOSED');
    if (isOver || this.#closing.signal.aborted) throw sessionClosed();
    const session = this.#session;
    if (session && session.state !== 'lost') return session;
    this.#opening ??= this.#open().finally(() => {
      this.#opening = undefined;
    });
    return unlessAborted(this.#opening, signal);
  }

  /**
   * Ends a session that the store was heard to know no more, so that the next is opened at once and
   * not when a renewal is due. Only what the keeper opened: the origin is its owner's.
   */
  giveUp(session: Session): void {
    if (session === this.#origin || session !== this.#session) return;
    this.#ending = session.close();
  }

  /** Ends the session if the keeper opened it. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#opening?.catch(() => undefined);
    await this.#ending;
    if (this.#session !== this.#origin) await this.#session?.close();
  }

  async #open(): Promise<Session> {
    const { client, terms } = this.#origin;
    const { signal } = this.#closing;
    if (this.#session) await pause(client.clock, client.random() * reopenSpreadMs, signal);
    for (let attempt = 0; ; attempt++) {
      try {
        this.#session = await client.session({ ...terms, signal });
        return this.#session;
      } catch (error) {
        if (signal.aborted) throw sessionClosed();
        if (!mayRepeat(error)) throw error;
      }
      await pause(client.clock, fullJitterMs(attempt, client.random), signal);
    }
  }
}

/** Of what its owner has closed, and of what had not come to anything by then. */
export const sessionClosed = () => new ConclaveError('CLOSED', 'The session was closed');
