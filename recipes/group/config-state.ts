/** What a client knows of a configuration: the last good value, and how the store's compares to it. */
import type { ConclaveError } from '../../sdk/errors.ts';
import { type Observable, StateSource } from '../../sdk/observe.ts';

export type ConfigVersion<T> = {
  readonly value: T;
  /** Of the write that made it so; 0n for the default. */
  readonly revision: bigint;
};

export type ConfigStatus =
  /** The value is what the store holds, or the default, as it holds none. */
  | { readonly state: 'ok' }
  /** The store does not answer, or refuses: the value is the last that was good. */
  | { readonly state: 'stale'; readonly error?: ConclaveError }
  /** The store holds what this client cannot use (CODEC) or nothing (NOT_FOUND): likewise. */
  | { readonly state: 'invalid'; readonly revision: bigint; readonly reason: ConclaveError };

type Bad = { readonly revision: bigint; readonly reason: ConclaveError };

const ok: ConfigStatus = { state: 'ok' };

export class ConfigState<T> {
  readonly #good = new StateSource<ConfigVersion<T> | undefined>(undefined);
  readonly #status = new StateSource<ConfigStatus>({ state: 'stale' });
  #bad: Bad | undefined;
  #stale: { readonly error?: ConclaveError } | undefined;

  get good(): ConfigVersion<T> | undefined {
    return this.#good.value;
  }

  get bad(): Bad | undefined {
    return this.#bad;
  }

  get status(): ConfigStatus {
    return this.#status.value;
  }

  get good$(): Observable<ConfigVersion<T> | undefined> {
    return this.#good.observable;
  }

  get status$(): Observable<ConfigStatus> {
    return this.#status.observable;
  }

  /** This is in force from now on. */
  accept(good: ConfigVersion<T>): void {
    this.#bad = undefined;
    this.#good.set(good);
    this.#publish();
  }

  /** What the store holds cannot be used. */
  refuse(bad: Bad): void {
    this.#bad = bad;
    this.#publish();
  }

  /** Whether the store answers. */
  answers(stale?: { readonly error?: ConclaveError }): void {
    this.#stale = stale;
    this.#publish();
  }

  complete(): void {
    this.#good.complete();
    this.#status.complete();
  }

  #publish(): void {
    // What is in the store while it does not answer is not known.
    if (this.#stale) this.#status.set({ state: 'stale', ...this.#stale });
    else if (this.#bad) this.#status.set({ state: 'invalid', ...this.#bad });
    else this.#status.set(ok);
  }
}
