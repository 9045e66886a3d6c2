/**
 * Finding a member that accepts: endpoints are tried in order, and the next one does not wait long for
 * the one before. A member that hangs (its kernel still accepts, nobody answers) costs a moment, not a
 * timeout. The first connection that stands is taken, the others are dropped.
 */
import type { Cancel, Clock } from './clock.ts';
import type { Endpoint } from './endpoints.ts';
import type { Link } from './link.ts';

export type DialOptions = {
  readonly clock: Clock;
  readonly open: (endpoint: Endpoint) => Link;
  /** How long one attempt may take. */
  readonly attemptMs: number;
  /** How long the next endpoint waits for the one before it. */
  readonly staggerMs: number;
  readonly onFailure: (endpoint: Endpoint, error: unknown) => void;
};

export class Dialing {
  readonly #endpoints: readonly Endpoint[];
  readonly #options: DialOptions;
  readonly #links = new Set<Link>();
  #cancelStagger: Cancel = () => {};
  #started = 0;
  #settle: ((link: Link | undefined) => void) | undefined;

  constructor(endpoints: readonly Endpoint[], options: DialOptions) {
    this.#endpoints = endpoints;
    this.#options = options;
  }

  /** The first link that stands; undefined when every endpoint failed, or on `stop`. */
  run(): Promise<Link | undefined> {
    return new Promise((resolve) => {
      this.#settle = resolve;
      this.#startNext();
    });
  }

  stop(): void {
    this.#finish(undefined);
  }

  #startNext(): void {
    this.#cancelStagger();
    const endpoint = this.#endpoints[this.#started];
    if (this.#settle === undefined || endpoint === undefined) return;
    this.#started += 1;
    const { clock, staggerMs } = this.#options;
    if (this.#started < this.#endpoints.length) {
      this.#cancelStagger = clock.setTimer(staggerMs, () => this.#startNext(), true);
    }
    void this.#attempt(endpoint);
  }

  async #attempt(endpoint: Endpoint): Promise<void> {
    let link: Link | undefined;
    try {
      link = this.#options.open(endpoint);
      this.#links.add(link);
      await link.connected(this.#options.attemptMs);
      this.#finish(link);
    } catch (error) {
      if (link !== undefined) this.#links.delete(link);
      link?.close();
      if (this.#settle === undefined) return;
      this.#options.onFailure(endpoint, error);
      if (this.#started < this.#endpoints.length) this.#startNext();
      else if (this.#links.size === 0) this.#finish(undefined);
    }
  }

  #finish(chosen: Link | undefined): void {
    const settle = this.#settle;
    this.#settle = undefined;
    this.#cancelStagger();
    const won = settle === undefined ? undefined : chosen;
    for (const link of this.#links) if (link !== won) link.close();
    this.#links.clear();
    settle?.(won);
  }
}
