import { describe, expect, test } from 'vitest';
import { idsPrefix } from '../../recipes/names.ts';
import { IdAllocator, type IdOptions } from '../../recipes/values/id-allocator.ts';
import { storeMissing } from '../support/store.ts';
import { type Actor, useWorld } from './world.ts';

describe.skipIf(storeMissing)('id allocator', () => {
  const world = useWorld();
  const of = (actor: Actor, name: string, options: IdOptions = {}) =>
    new IdAllocator(actor.context, name, options);
  const kinds = (actor: Actor) => actor.faults.take().map(({ kind }) => kind);

  test('hands out blocks: one exchange a block, none within', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const [ours, theirs] = [of(a, name, { block: 3 }), of(b, name, { block: 2 })];
    expect([await ours.next(), await ours.next(), await ours.next()]).toEqual([1n, 2n, 3n]);
    expect(kinds(a)).toEqual(['txn']);
    expect([await theirs.next(), await theirs.next()]).toEqual([4n, 5n]);
    expect(kinds(b)).toEqual(['txn', 'txn']);
    expect(await ours.next()).toBe(6n);
    expect(await theirs.next()).toBe(9n);
  });

  test('names options that do not exist; a wait for a block ends with its timeout', async () => {
    const actor = await world.actor();
    const ids = of(actor, world.name());
    expect(() => of(actor, 'x', { blokc: 5 } as object)).toThrow(/did you mean 'block'/);
    expect(() => of(actor, 'x', { remember: '1h' } as object)).toThrow(/'remember'/);
    expect(() => of(actor, 'x', null as never)).toThrow(/'options'/);
    await expect(ids.next({ timeuot: 1 } as object)).rejects.toThrow(/did you mean 'timeout'/);
    await expect(ids.next(null as never)).rejects.toThrow(/'options'/);
    actor.faults.plan = () => 'refuse';
    await expect(ids.next({ timeout: '20ms' })).rejects.toMatchObject({ code: 'TIMEOUT' });
    actor.faults.heal();
    expect(await ids.next({ timeout: '10s' })).toBe(1n);
  });

  test('tasks that wait share one block', async () => {
    const actor = await world.actor();
    const ids = of(actor, world.name(), { block: 10 });
    const given = await Promise.all(Array.from({ length: 10 }, () => ids.next()));
    expect(given).toEqual([1n, 2n, 3n, 4n, 5n, 6n, 7n, 8n, 9n, 10n]);
    expect(kinds(actor)).toEqual(['txn']);
  });

  test('more tasks than a block has ids all get one of their own', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const allocators = [of(a, name, { block: 2 }), of(b, name, { block: 3 })];
    const given = await Promise.all(
      Array.from({ length: 20 }, (_, index) => allocators[index % 2]?.next()),
    );
    expect(new Set(given).size).toBe(20);
  });

  test('a lost answer neither gives ids twice nor loses a block', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const [ours, theirs] = [of(a, name, { block: 2 }), of(b, name, { block: 2 })];
    a.faults.next('lose-answer');
    a.faults.after = async ({ write }) => {
      a.faults.after = () => undefined;
      if (write) expect(await theirs.next()).toBe(3n);
    };
    expect([await ours.next(), await ours.next()]).toEqual([1n, 2n]);
    expect(await ours.next()).toBe(5n);
  });

  test('one that gives up does not end the refill of the others', async () => {
    const actor = await world.actor();
    const ids = of(actor, world.name());
    const stop = new AbortController();
    const given = ids.next({ signal: stop.signal });
    const other = ids.next();
    stop.abort('enough');
    await expect(given).rejects.toMatchObject({ code: 'ABORTED', cause: 'enough' });
    expect(await other).toBe(1n);
  });

  test('a lost session hands out nothing more, whatever is left of the block', async () => {
    const actor = await world.actor();
    const ids = of(actor, world.name());
    await ids.next();
    await actor.session.close();
    await expect(ids.next()).rejects.toMatchObject({ code: expect.stringMatching(/LOST|CLOSED/) });
  });

  test('refuses what it cannot use', async () => {
    const actor = await world.actor();
    const name = world.name();
    expect(() => of(actor, '')).toThrow(/'name'/);
    for (const block of [0, 1.5, -1]) expect(() => of(actor, name, { block })).toThrow(/'block'/);
    await world.operator().kv.put(`${idsPrefix(name)}sum/0`, 'x');
    await expect(of(actor, name).next()).rejects.toMatchObject({ code: 'CODEC' });
  });
});
