/**
 * One watch at a time, on what somebody waits for. It tells what happens after the look that it
 * belongs to, and asks for another look when it cannot know: after a compaction, or when it broke.
 */
import type { Client } from '../../sdk/client.ts';
import type { WatchEvent } from '../../sdk/watch.ts';
import { pause } from '../common/repeat.ts';

export type Followed = {
  /** A key, or all keys of a prefix. */
  readonly range: string | { readonly prefix: string };
  /** Report writes as well as deletions. @default true */
  readonly puts?: boolean;
};

export type FollowerHandlers = {
  /** Everything that one revision did. */
  events(events: readonly WatchEvent[], revision: bigint): void;
  /** Only a look at the store can tell what comes next. */
  look(): void;
};

type Turn = {
  readonly followed: Followed;
  readonly controller: AbortController;
  /** What happened up to here is known otherwise. */
  since: bigint;
  /** The newest revision told. */
  upTo: bigint;
};

const named = ({ range, puts = true }: Followed): string => JSON.stringify([range, puts]);

export class Follower {
  readonly #client: Client;
  readonly #restMs: () => number;
  readonly #handlers: FollowerHandlers;
  #turn: Turn | undefined;

  /** @param restMs how long to rest after a watch failed */
  constructor(client: Client, restMs: () => number, handlers: FollowerHandlers) {
    this.#client = client;
    this.#restMs = restMs;
    this.#handlers = handlers;
  }

  /**
   * Tells what happens from the next revision on. A watch on the same range goes on, unless the
   * store's revisions ran backwards since: then it would wait for what was there before.
   */
  follow(followed: Followed, revision: bigint): void {
    const turn = this.#turn;
    if (turn && named(turn.followed) === named(followed) && revision >= turn.upTo) {
      turn.since = revision;
      return;
    }
    this.stop();
    const next = { followed, controller: new AbortController(), since: revision, upTo: revision };
    this.#turn = next;
    void this.#run(next);
  }

  stop(): void {
    this.#turn?.controller.abort();
    this.#turn = undefined;
  }

  async #run(turn: Turn): Promise<void> {
    const { range, puts = true } = turn.followed;
    const { signal } = turn.controller;
    const options = { from: turn.since + 1n, puts, signal };
    try {
      for await (const notice of this.#client.kv.watch(range, options)) {
        if (signal.aborted) return;
        if (notice.type === 'progress') continue;
        turn.upTo = notice.revision;
        if (notice.type === 'reset') this.#handlers.look();
        else if (notice.revision > turn.since) {
          this.#handlers.events(notice.events, notice.revision);
        }
      }
    } catch {
      // Whatever it was: the look that follows finds out what it hid.
    }
    await pause(this.#client.clock, this.#restMs(), signal).catch(() => undefined);
    if (this.#turn !== turn) return;
    this.#turn = undefined;
    this.#handlers.look();
  }
}
