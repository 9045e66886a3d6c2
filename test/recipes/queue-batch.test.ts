/** Batches as large as they may be, whose transactions must stay within what servers allow. */
import { describe, expect, test } from 'vitest';
import { Queue } from '../../recipes/queue/queue.ts';
import { storeMissing } from '../support/store.ts';
import { useWorld } from './world.ts';

const size = 100;

describe.skipIf(storeMissing)('a batch of 100 jobs', () => {
  const world = useWorld();

  test.each([
    { groups: 100, limits: {} },
    { groups: 50, limits: {} },
    { groups: 100, limits: { capacity: size } },
    { groups: 50, limits: { capacity: size } },
    { groups: 50, limits: { capacity: size, groupConcurrency: 2 } },
  ])('goes in one transaction: $groups groups, $limits', async ({ groups, limits }) => {
    const actor = await world.actor();
    const name = world.name();
    const queue = new Queue<number>(actor.context, name, { limits });
    // A key each is what adds most conditions and operations.
    const jobs = Array.from({ length: size }, (_, data) => ({
      data,
      key: `${data}`,
      group: `${data % groups}`,
    }));
    const pushed = await queue.pushMany(jobs);
    expect(pushed.filter(({ duplicate }) => !duplicate)).toHaveLength(size);
    const sent = actor.faults.take().filter(({ parts }) => (parts?.compares.length ?? 0) > size);
    expect(sent).toHaveLength(1);
    const ready = Math.min(size, groups * ('groupConcurrency' in limits ? 2 : 1));
    expect(await queue.stats()).toMatchObject({ ready, lined: size - ready });
    if ('capacity' in limits) {
      const more = queue.push(size, { whenFull: 'fail' });
      await expect(more).rejects.toMatchObject({ code: 'FULL' });
    }
  });

  test.each([{}, { capacity: 1_000 }])('or of any fewer is accepted: %j', async (limits) => {
    const actor = await world.actor();
    const queue = new Queue<number>(actor.context, world.name(), { limits });
    // Around where the operations of the jobs are nested, since no more fit in side by side.
    const sizes = [39, 40, 41, 58, 59, 60, 61];
    for (const count of sizes) {
      const numbers = Array.from({ length: count }, (_, data) => data);
      await queue.pushMany(numbers.map((data) => ({ data, priority: 1 })));
      await queue.pushMany(numbers.map((data) => ({ data, key: `${count}-${data}` })));
    }
    const added = sizes.reduce((sum, count) => sum + 2 * count, 0);
    expect(await queue.stats()).toMatchObject({ ready: added });
  });
});
