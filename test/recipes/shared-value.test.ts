import { firstValueFrom, take, toArray } from 'rxjs';
import { describe, expect, test } from 'vitest';
import { valuePrefix } from '../../recipes/names.ts';
import { SharedValue, type ValueOptions } from '../../recipes/values/shared-value.ts';
import { storeMissing } from '../support/store.ts';
import { type Actor, useWorld } from './world.ts';

describe.skipIf(storeMissing)('shared value', () => {
  const world = useWorld();
  const of = (actor: Actor, name: string, options: ValueOptions<number> = {}) =>
    new SharedValue<number>(actor.context, name, options);
  const kinds = (actor: Actor) => actor.faults.take().map(({ kind }) => kind);

  test('compare-and-set goes by the revision; one exchange either way', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const [ours, theirs] = [of(a, name), of(b, name)];
    expect(await ours.get()).toBeNull();
    kinds(a);
    const first = await ours.compareAndSet(0n, 1);
    expect(first).toMatchObject({ value: 1 });
    expect(await ours.compareAndSet(0n, 2)).toBeNull();
    expect(kinds(a)).toEqual(['txn', 'txn']);
    expect(await theirs.get()).toEqual(first);
    const second = await theirs.compareAndSet(first?.revision ?? 0n, 5);
    await theirs.compareAndSet(second?.revision ?? 0n, 1);
    // The value is as it was, but it is another.
    expect(await ours.compareAndSet(first?.revision ?? 0n, 9)).toBeNull();
    expect((await ours.get())?.value).toBe(1);
  });

  test('updates of many tasks lose nothing', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const values = [of(a, name, { retries: 200 }), of(b, name, { retries: 200 })];
    await Promise.all(
      Array.from({ length: 10 }, (_, index) => values[index % 2]?.update((value = 0) => value + 1)),
    );
    expect((await values[0]?.get())?.value).toBe(10);
  });

  test('an update costs a read and a write, and one exchange for each conflict', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const seen: (number | undefined)[] = [];
    let disturbed = false;
    a.faults.before = async ({ write }) => {
      if (!write || disturbed) return;
      disturbed = true;
      await of(b, name).set(100);
    };
    const result = await of(a, name).update((value) => {
      seen.push(value);
      return (value ?? 0) + 1;
    });
    expect(result.value).toBe(101);
    expect(seen).toEqual([undefined, 100]);
    expect(kinds(a)).toEqual(['get', 'txn', 'txn']);
  });

  test('a change whose answer is lost is known to have happened, whoever wrote since', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    a.faults.next('lose-answer');
    a.faults.after = async ({ write }) => {
      if (!write) return;
      a.faults.after = () => undefined;
      await of(b, name).update((value = 0) => value * 10);
    };
    const mine = await of(a, name).compareAndSet(0n, 7);
    expect(mine?.value).toBe(7);
    const now = await of(a, name).get();
    expect(now?.value).toBe(70);
    expect((now?.revision ?? 0n) > (mine?.revision ?? 0n)).toBe(true);
  });

  test('a refused change cannot take effect late, though its condition comes true again', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    a.faults.next('linger');
    let disturbed = false;
    a.faults.before = async ({ write }) => {
      if (!write || disturbed) return;
      disturbed = true;
      await of(b, name).set(1);
    };
    expect(await of(a, name).compareAndSet(0n, 2)).toBeNull();
    await world.operator().kv.delete(`${valuePrefix(name)}current`);
    await a.faults.deliver();
    expect(await of(b, name).get()).toBeNull();
  });

  test('a copy of a change that was made cannot take effect again, though its condition comes true', async () => {
    const actor = await world.actor();
    const name = world.name();
    const value = of(actor, name);
    actor.faults.next('linger');
    expect((await value.compareAndSet(0n, 1))?.value).toBe(1);
    // Takes along what no write needs any more.
    await value.set(2);
    await world.operator().kv.delete(`${valuePrefix(name)}current`);
    await actor.faults.deliver();
    expect(await value.get()).toBeNull();
  });

  test('too many conflicts, a throwing change, an abort and a lost session end an update', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const value = of(a, name, { retries: 2 });
    a.faults.before = async ({ write }) => {
      if (write) await of(b, name).set(0);
    };
    await expect(value.set(1)).rejects.toMatchObject({ code: 'CONFLICT', retryable: true });
    a.faults.heal();
    const broken = value.update(() => {
      throw new Error('no');
    });
    await expect(broken).rejects.toThrow('no');
    const signal = AbortSignal.abort('enough');
    await expect(value.set(1, { signal })).rejects.toMatchObject({ code: 'ABORTED' });
    await a.killLease();
    await expect(value.set(1)).rejects.toMatchObject({ code: 'SESSION_LOST' });
    expect((await of(b, name).get())?.value).toBe(0);
  });

  test('value$ begins with the value and tells each change; op-records do not pile up', async () => {
    const actor = await world.actor();
    const name = world.name();
    const value = of(actor, name);
    const seen = firstValueFrom(value.value$.pipe(take(3), toArray()));
    expect(await firstValueFrom(value.value$)).toBeNull();
    await value.set(1);
    await value.set(2);
    expect((await seen).map((state) => state?.value)).toEqual([undefined, 1, 2]);
    expect(await world.operator().kv.count({ prefix: `${valuePrefix(name)}op/` })).toBe(1n);
  });

  test('names options that do not exist, and what is of another type', async () => {
    const actor = await world.actor();
    const name = world.name();
    const value = of(actor, name);
    expect(() => of(actor, name, { codecs: 1 } as object)).toThrow(/did you mean 'codec'/);
    expect(() => of(actor, name, { codec: {} as never })).toThrow(/'codec'/);
    expect(() => of(actor, name, null as never)).toThrow(/'options'/);
    const invalid = { code: 'INVALID_ARGUMENT' };
    await expect(value.update(1 as never)).rejects.toMatchObject({
      ...invalid,
      message: expect.stringContaining("Cannot use 1 as 'change'"),
    });
    await expect(value.update(undefined as never)).rejects.toMatchObject(invalid);
    await expect(value.set(1, { timeuot: 1 } as object)).rejects.toThrow(/'timeuot'/);
    await expect(value.set(1, null as never)).rejects.toThrow(/'options'/);
    await expect(value.compareAndSet(0n, 1, { singal: 1 } as object)).rejects.toThrow(/'singal'/);
    expect(await value.get()).toBeNull();
  });

  test('a change ends with its timeout, and tells what became of it', async () => {
    const actor = await world.actor();
    const value = of(actor, world.name());
    const timeout = '20ms';
    actor.faults.plan = ({ write }) => (write ? 'refuse' : 'pass');
    const late = { code: 'TIMEOUT', outcome: 'not-applied' };
    await expect(value.set(1, { timeout })).rejects.toMatchObject(late);
    await expect(value.compareAndSet(0n, 1, { timeout })).rejects.toMatchObject(late);
    actor.faults.plan = ({ write }) => (write ? 'lose-answer' : 'pass');
    const unknown = value.compareAndSet(0n, 2, { timeout });
    await expect(unknown).rejects.toMatchObject({ code: 'TIMEOUT', outcome: 'unknown' });
    actor.faults.heal();
    const never = () => new Promise<number>(() => undefined);
    await expect(value.update(never, { timeout })).rejects.toMatchObject(late);
    expect((await value.set(3, { timeout: '10s' })).value).toBe(3);
  });

  test('refuses what it cannot use', async () => {
    const actor = await world.actor();
    const name = world.name();
    expect(() => of(actor, '')).toThrow(/'name'/);
    expect(() => of(actor, name, { retries: 0.5 })).toThrow(/'retries'/);
    await expect(of(actor, name).compareAndSet(-1n, 1)).rejects.toThrow(/'expected'/);
    await world.operator().kv.put(`${valuePrefix(name)}current`, '{');
    await expect(of(actor, name).get()).rejects.toMatchObject({ code: 'CODEC' });
  });
});
