/** A cache that is written to by all who read it: it shows every revision, each as it was. */
import type { CacheEvent } from '../../../../recipes/group/cache-entry.ts';
import type { PrefixCache } from '../../../../recipes/group/prefix-cache.ts';
import type { RecipeSession } from '../../../../recipes/session.ts';
import { text } from '../../../../sdk/codec.ts';
import { op } from '../../../../sdk/txn.ts';
import { hold } from '../../engine/violation.ts';
import type { CommitLog } from '../commit-log.ts';
import { checkFollowed, type Followed } from './followed.ts';
import { ignoreRefusal, inSessions } from './sessions.ts';
import type { ClientContext, Workload } from './workload.ts';

const PREFIX = 'shelf/';

export class CacheWorkload implements Workload {
  readonly #followers: Followed[] = [];

  async run(client: ClientContext): Promise<void> {
    await inSessions(client, async (session) => {
      const cache = session.cache<string>(PREFIX, { codec: text(), recheck: 2_000 });
      const followed: Followed = { name: client.name, sights: [] };
      this.#followers.push(followed);
      cache.changes$.subscribe((event) => this.#note(followed, cache, event));
      await cache.ready({ signal: client.ending });
      while (!client.isEnding() && session.state !== 'lost') {
        await this.#turn(client, session, cache).catch(ignoreRefusal);
        await client.pause(client.knobs.meanPauseMs);
      }
    });
  }

  check(log: CommitLog): void {
    const wrong = checkFollowed(log, PREFIX, this.#followers);
    hold(wrong === undefined, 50, () => `${wrong}`);
  }

  async #turn(
    { name, choose, knobs, ending }: ClientContext,
    session: RecipeSession,
    cache: PrefixCache<string>,
  ): Promise<void> {
    const { kv } = session.client;
    const key = `${PREFIX}${choose.below(knobs.keys)}`;
    switch (choose.below(4)) {
      case 0:
        await kv.delete(key);
        return;
      case 1: {
        const [one, other] = [`${PREFIX}left`, `${PREFIX}right`];
        const { revision } = await kv.txn().then(op.put(one, name), op.put(other, name)).commit();
        await this.#readBack(cache, 'left', revision, ending);
        return;
      }
      default: {
        const { revision } = await kv.put(key, name);
        await this.#readBack(cache, key.slice(PREFIX.length), revision, ending);
      }
    }
  }

  /** Who waits for an own write sees it, or a later one. */
  async #readBack(
    cache: PrefixCache<string>,
    key: string,
    revision: bigint,
    signal: AbortSignal,
  ): Promise<void> {
    await cache.waitForRevision(revision, { signal });
    const entry = cache.entry(key);
    const isSeen = entry === undefined ? cache.revision > revision : entry.modRevision >= revision;
    hold(isSeen, 50, () => `the write of ${key} at ${revision} is not in the cache`);
  }

  #note(followed: Followed, cache: PrefixCache<string>, event: CacheEvent<string>): void {
    if (event.type !== 'reset' && event.type !== 'changed') return;
    const { entries, revision } = cache.snapshot();
    const isReset = event.type === 'reset' && event.reason !== 'start';
    const keys = new Map([...entries.values()].map((entry) => [entry.key, entry.modRevision]));
    followed.sights.push({ isReset, revision, keys });
  }
}
