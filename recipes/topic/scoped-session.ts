/**
 * A session whose client sees only what is under a prefix. What is built over it has a keyspace of
 * its own: a queue that serves a topic can never meet a queue of the same name.
 */
import type { Client } from '../../sdk/client.ts';
import type { ConclaveError } from '../../sdk/errors.ts';
import type { Observable } from '../../sdk/observe.ts';
import type { Session, SessionState } from '../../sdk/session.ts';

export class ScopedSession implements Session {
  readonly client: Client;
  readonly #session: Session;

  constructor(session: Session, prefix: string) {
    this.client = session.client.namespace(prefix);
    this.#session = session;
  }

  get lease(): bigint {
    return this.#session.lease;
  }
  get id(): string {
    return this.#session.id;
  }
  get ttlMs(): number {
    return this.#session.ttlMs;
  }
  get onSuspend(): 'stop' | 'continue' {
    return this.#session.onSuspend;
  }
  get meta(): Readonly<Record<string, string>> {
    return this.#session.meta;
  }
  get state(): SessionState {
    return this.#session.state;
  }
  get state$(): Observable<SessionState> {
    return this.#session.state$;
  }
  get validUntilMs(): number {
    return this.#session.validUntilMs;
  }
  get signal(): AbortSignal {
    return this.#session.signal;
  }
  get errors$(): Observable<ConclaveError> {
    return this.#session.errors$;
  }
  assertLive(): void {
    this.#session.assertLive();
  }
  reap(release: () => Promise<boolean>): void {
    this.#session.reap(release);
  }
  close(): Promise<void> {
    return this.#session.close();
  }
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
