/**
 * 1,000 waiters on one lock: who wakes, what that costs, and that it does not grow with the crowd.
 *
 * Without CONCLAVE_TEST_CROWD=1000 there are fewer, so that everybody can run it.
 */
import { describe, expect, test, vi } from 'vitest';
import { Election } from '../../recipes/election/election.ts';
import { Mutex } from '../../recipes/locks/mutex.ts';
import { RwLock } from '../../recipes/locks/rw-lock.ts';
import { Semaphore } from '../../recipes/locks/semaphore.ts';
import { electionPrefix, lockPrefix, rwPrefix, semaphorePrefix } from '../../recipes/names.ts';
import { storeMissing } from '../support/store.ts';
import { type Actor, eventually, turnCosts, useWorld } from './world.ts';

const crowd = Number(process.env['CONCLAVE_TEST_CROWD'] ?? 150);
/** Without the slow re-read, which on a slow machine would add looks of its own. */
const recheck = '1h';

type Kind = {
  readonly name: string;
  readonly prefix: (name: string) => string;
  /** How many hold at a time. */
  readonly limit: number;
  /** Whether conclave tells the waiters of their turn. */
  readonly isTold: boolean;
  readonly take: (actor: Actor, name: string) => Promise<() => Promise<void>>;
};

const kinds: readonly Kind[] = [
  {
    name: 'mutex',
    prefix: lockPrefix,
    limit: 1,
    isTold: true,
    take: async ({ context }, name) => {
      const held = await new Mutex(context, name, { recheck }).acquire();
      return () => held.release();
    },
  },
  {
    name: 'election',
    prefix: electionPrefix,
    limit: 1,
    isTold: true,
    take: async ({ context }, name) => {
      const held = await new Election<string>(context, name, { recheck }).campaign({ value: 'x' });
      return () => held.resign();
    },
  },
  {
    name: 'rw-lock of writers',
    prefix: rwPrefix,
    limit: 1,
    isTold: true,
    take: async ({ context }, name) => {
      const held = await new RwLock(context, name, { recheck }).write();
      return () => held.release();
    },
  },
  {
    name: 'semaphore',
    prefix: semaphorePrefix,
    limit: 3,
    isTold: false,
    take: async ({ context }, name) => {
      const held = await new Semaphore(context, name, { limit: 3, recheck }).acquire();
      return () => held.release();
    },
  },
];

describe.skipIf(storeMissing)('1,000 waiters on one lock', () => {
  const world = useWorld();

  test.each(kinds)('$name: each release wakes one, and draining is linear', async (kind) => {
    const { limit, take, prefix } = kind;
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    let told = 0;
    const watch = b.client.kv.watch.bind(b.client.kv);
    vi.spyOn(b.client.kv, 'watch').mockImplementation((range, options) => {
      const watched = watch(range, options);
      const iterate = watched[Symbol.asyncIterator].bind(watched);
      watched[Symbol.asyncIterator] = () => {
        const iterator = iterate();
        const next = iterator.next.bind(iterator);
        iterator.next = async () => {
          const result = await next();
          if (!result.done && result.value.type === 'events') told += result.value.events.length;
          return result;
        };
        return iterator;
      };
      return watched;
    });
    const holders: (() => Promise<void>)[] = [];
    for (let index = 0; index < limit; index += 1) holders.push(await take(a, name));
    let turns = 0;
    const holds = Array.from({ length: crowd }, async () => {
      const release = await take(b, name);
      turns += 1;
      await release();
    });
    await eventually('the line', async () => {
      const { count } = await world.operator().kv.list({ prefix: prefix(name) }, { limit: 1 });
      return count >= crowd + limit;
    });
    const waits = kind.isTold ? turnCosts.wait : ['watch', 'watch'];
    await eventually('the waits', () => {
      const waiting = b.faults.calls.filter((call) => call.kind === waits[0]).length;
      return waiting >= waits.length * crowd;
    });
    let answers = 0;
    b.faults.after = (call) => {
      if (call.kind === 'wait') answers += 1;
    };
    expect(turns).toBe(0);
    b.faults.take();
    for (const release of holders) await release();
    await Promise.all(holds);
    const calls = b.faults.take();
    const looks = answers + calls.filter((call) => call.kind === 'txn' && !call.write).length;
    const writes = calls.filter((call) => call.write);
    // A waiter with several ahead of it may look once before it is its turn. To be told is a look.
    expect(looks).toBeGreaterThanOrEqual(crowd);
    expect(looks).toBeLessThanOrEqual(limit === 1 ? crowd : 1.5 * crowd);
    expect(writes).toHaveLength(crowd);
    expect(told).toBeLessThanOrEqual(2 * limit * crowd);
  });
});
