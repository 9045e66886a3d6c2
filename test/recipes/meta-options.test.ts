/** What is shown beside a member is refused by name where it is given, before anything is written. */
import { describe, expect, test } from 'vitest';
import { Barrier } from '../../recipes/barriers/barrier.ts';
import { CyclicBarrier } from '../../recipes/barriers/cyclic-barrier.ts';
import { DoubleBarrier } from '../../recipes/barriers/double-barrier.ts';
import { Latch } from '../../recipes/barriers/latch.ts';
import type { RecipeContext } from '../../recipes/common/context.ts';
import { Election } from '../../recipes/election/election.ts';
import { CustomLine } from '../../recipes/locks/custom-line.ts';
import { MultiLock } from '../../recipes/locks/multi-lock.ts';
import { Mutex } from '../../recipes/locks/mutex.ts';
import { RwLock } from '../../recipes/locks/rw-lock.ts';
import { Semaphore } from '../../recipes/locks/semaphore.ts';
import { RateLimiter } from '../../recipes/rate/rate-limiter.ts';
import { storeMissing } from '../support/store.ts';
import { useWorld } from './world.ts';

type Options = { readonly meta: never };

const calls: Readonly<
  Record<string, (context: RecipeContext, name: string, options: Options) => Promise<unknown>>
> = {
  'mutex.acquire': (context, name, options) => new Mutex(context, name).acquire(options),
  'mutex.tryAcquire': (context, name, options) => new Mutex(context, name).tryAcquire(options),
  'rwLock.read': (context, name, options) => new RwLock(context, name).read(options),
  'rwLock.write': (context, name, options) => new RwLock(context, name).write(options),
  'semaphore.acquire': (context, name, options) =>
    new Semaphore(context, name, { limit: 1 }).acquire(options),
  'line.acquire': (context, name, options) =>
    new CustomLine(context, name, { policy: (_me, ahead) => ahead.at(-1) }).acquire(options),
  'multi.acquire': (context, name, options) => new MultiLock(context, [name]).acquire(options),
  'rateLimit.take': (context, name, options) =>
    new RateLimiter(context, name, { rate: 1 }).take(1, options),
  'barrier.raise': (context, name, options) => new Barrier(context, name).raise(options),
  'barrier.wait': (context, name, options) => new Barrier(context, name).wait(options),
  'barrier.wait without a trace': (context, name, options) =>
    new Barrier(context, name).wait({ ...options, announce: false }),
  'doubleBarrier.enter': (context, name, options) =>
    new DoubleBarrier(context, name, { parties: 1 }).enter(options),
  'cyclicBarrier.wait': (context, name, options) =>
    new CyclicBarrier(context, name, { parties: 1 }).wait(options),
  'latch.arrive': (context, name, options) =>
    new Latch(context, name, { count: 1 }).arrive('a', options),
  election: async (context, name, options) => new Election<string>(context, name, options),
};

const mistakes: readonly (readonly [unknown, string])[] = [
  ['host', "'meta'"],
  [['host'], "'meta'"],
  [null, "'meta'"],
  [{ port: 80 }, "'meta.port'"],
];

describe.skipIf(storeMissing)('meta that is no flat record of texts', () => {
  const world = useWorld();

  test.each(Object.entries(calls))('%s', async (_, call) => {
    const actor = await world.actor();
    actor.faults.take();
    for (const [meta, named] of mistakes) {
      await expect(
        call(actor.context, world.name(), { meta: meta as never }),
      ).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringContaining(named),
      });
    }
    expect(actor.faults.take()).toEqual([]);
  });
});
