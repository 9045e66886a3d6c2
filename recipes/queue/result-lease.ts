/** The lease that ends kept results: shared by all results of a period, so that leases stay few. */
import type { Client } from '../../sdk/client.ts';
import { untilAnswered } from '../common/repeat.ts';

export class ResultLease {
  readonly #client: Client;
  readonly #keepMs: number;
  #lease: bigint | undefined;
  #freshUntilMs = 0;
  #granting: Promise<bigint> | undefined;

  /** @param keepMs results live this long at least, and at most twice as long */
  constructor(client: Client, keepMs: number) {
    this.#client = client;
    this.#keepMs = keepMs;
  }

  async current(signal?: AbortSignal): Promise<bigint> {
    if (this.#lease !== undefined && this.#client.clock.monotonicMs() < this.#freshUntilMs) {
      return this.#lease;
    }
    this.#granting ??= this.#grant(signal).finally(() => {
      this.#granting = undefined;
    });
    return this.#granting;
  }

  /** The store does not know the lease any more. */
  forget(lease: bigint): void {
    if (this.#lease === lease) this.#lease = undefined;
  }

  async #grant(signal?: AbortSignal): Promise<bigint> {
    const { leases, clock } = this.#client;
    const sentMs = clock.monotonicMs();
    const { id } = await untilAnswered(
      this.#client,
      () => leases.grant(2 * this.#keepMs, signal && { signal }),
      signal,
    );
    this.#lease = id;
    this.#freshUntilMs = sentMs + this.#keepMs;
    return id;
  }
}
