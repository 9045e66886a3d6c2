/**
 * What one candidate knows of its election: a copy of the keys that a watch keeps current, and a slow,
 * jittered re-read for what the watch may have missed.
 */
import type { Client } from '../../sdk/client.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { type PrefixView, viewPrefix } from '../common/prefix-view.ts';
import { untilAnswered } from '../common/repeat.ts';
import { type LinkedSignal, linkedSignal } from '../common/signals.ts';

type Options = {
  readonly client: Client;
  readonly prefix: string;
  readonly recheckMs: number;
  /** Ends everything. */
  readonly signal: AbortSignal;
  /** @param rewound the store's revisions ran backwards: it was restored from an older state */
  readonly onView: (view: PrefixView, rewound: boolean) => void;
};

const nothing: PrefixView = { revision: 0n, entries: new Map() };

export class ElectionView {
  readonly #options: Options;
  #current = nothing;
  /** The highest revision that the store has answered with. */
  #known = 0n;
  #following: LinkedSignal | undefined;
  #cancelFollow: () => void = () => undefined;
  #cancelRecheck: () => void = () => undefined;

  constructor(options: Options) {
    this.#options = options;
  }

  get current(): PrefixView {
    return this.#current;
  }

  /** Takes over what another answer showed. */
  adopt(view: PrefixView): void {
    this.#current = view;
    this.learn(view.revision);
  }

  /** The store has been at this revision. */
  learn(revision: bigint): void {
    if (revision > this.#known) this.#known = revision;
  }

  /** Keeps the copy current from now on, or after a delay. */
  follow(delayMs: number): void {
    this.#recheckLater();
    this.#cancelFollow();
    if (delayMs === 0) this.#follow(this.#current);
    else {
      const { clock } = this.#options.client;
      this.#cancelFollow = clock.setTimer(delayMs, () => this.#follow(this.#current));
    }
  }

  /** Reads everything, and follows it anew where that shows more than was known. */
  async look(): Promise<void> {
    const { client, prefix, signal } = this.#options;
    const known = this.#known;
    try {
      const list = () => client.kv.list({ prefix }, { signal });
      const { kvs, revision } = await untilAnswered(client, list, signal);
      const rewound = revision < known;
      // Overtaken by the watch.
      if (!rewound && revision < this.#current.revision) return;
      const view = { revision, entries: byKey(kvs) };
      if (rewound || !sameEntries(view, this.#current)) this.#follow(view);
      this.#saw(view, rewound);
    } catch {
      // Ended meanwhile, or the store refuses to be read: the slow timer tries again.
    } finally {
      this.#recheckLater();
    }
  }

  /** No timer fires after this. */
  stop(): void {
    this.#cancelFollow();
    this.#cancelRecheck();
  }

  #follow(start: PrefixView): void {
    this.#cancelFollow();
    this.#following?.abort();
    const following = linkedSignal(this.#options.signal);
    this.#following = following;
    void this.#followUntil(start, following.signal).finally(() => following.unlink());
  }

  async #followUntil(start: PrefixView, signal: AbortSignal): Promise<void> {
    const { client, prefix } = this.#options;
    try {
      // Compared with the slow re-read: what is left is the moment when the connection breaks.
      const options = { signal, start, recheckMs: undefined };
      for await (const view of viewPrefix(client, prefix, options)) {
        if (signal.aborted) return;
        this.#saw(view, view.rewound === true);
      }
    } catch {
      // The slow re-read covers what a refused watch would have reported.
    }
  }

  #saw(view: PrefixView, rewound: boolean): void {
    if (rewound) this.#known = view.revision;
    this.adopt(view);
    this.#options.onView(view, rewound);
  }

  #recheckLater(): void {
    this.#cancelRecheck();
    const { client, recheckMs, signal } = this.#options;
    if (signal.aborted) return;
    const delayMs = recheckMs * (0.75 + 0.5 * client.random());
    this.#cancelRecheck = client.clock.setTimer(delayMs, () => void this.look());
  }
}

export const byKey = (kvs: readonly KeyValue[]): ReadonlyMap<string, KeyValue> =>
  new Map(kvs.map((kv) => [kv.key, kv]));

const sameEntries = (a: PrefixView, b: PrefixView): boolean =>
  a.entries.size === b.entries.size &&
  [...a.entries.values()].every(
    ({ key, modRevision }) => b.entries.get(key)?.modRevision === modRevision,
  );
