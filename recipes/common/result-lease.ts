/** The lease that ends kept results: shared by all results of a period, so that leases stay few. */
import type { Client } from '../../sdk/client.ts';
import type { RecipeContext } from './context.ts';
import { untilAnswered } from './repeat.ts';
import { unlessAborted } from './signals.ts';

/** By session and time: recipes are made anew for each use, their leases must not add up. */
const shared = new WeakMap<RecipeContext, Map<number, ResultLease>>();

export class ResultLease {
  readonly #client: Client;
  readonly #keepMs: number;
  readonly #periodMs: number;
  #lease: bigint | undefined;
  #freshUntilMs = 0;
  #granting: Promise<bigint> | undefined;

  /**
   * @param keepMs results live this long at least
   * @param periodMs and at most this much longer; one lease is granted for each. @default keepMs
   */
  constructor(client: Client, keepMs: number, periodMs = keepMs) {
    this.#client = client;
    this.#keepMs = keepMs;
    this.#periodMs = periodMs;
  }

  /** The one that all recipes of a session share. */
  static of(context: RecipeContext, keepMs: number): ResultLease {
    const leases = shared.get(context) ?? new Map<number, ResultLease>();
    shared.set(context, leases);
    const lease = leases.get(keepMs) ?? new ResultLease(context.session.client, keepMs);
    leases.set(keepMs, lease);
    return lease;
  }

  async current(signal?: AbortSignal): Promise<bigint> {
    if (this.#lease !== undefined && this.#client.clock.monotonicMs() < this.#freshUntilMs) {
      return this.#lease;
    }
    // All who wait share one grant, which goes on when one of them gives up.
    this.#granting ??= this.#grant().finally(() => {
      this.#granting = undefined;
    });
    return unlessAborted(this.#granting, signal);
  }

  /** The store does not know the lease any more. */
  forget(lease: bigint): void {
    if (this.#lease === lease) this.#lease = undefined;
  }

  async #grant(): Promise<bigint> {
    const { leases, clock } = this.#client;
    const sentMs = clock.monotonicMs();
    const { id } = await untilAnswered(this.#client, () =>
      leases.grant(this.#keepMs + this.#periodMs),
    );
    this.#lease = id;
    this.#freshUntilMs = sentMs + this.#periodMs;
    return id;
  }
}
