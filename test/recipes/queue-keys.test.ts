/** Keys of jobs that outlive them: done once means refused for a while. */
import { describe, expect, test, vi } from 'vitest';
import { queueKeys } from '../../recipes/names.ts';
import { Queue, type QueueOptions } from '../../recipes/queue/queue.ts';
import { QueueConsumer } from '../../recipes/queue/queue-consumer.ts';
import { Worker } from '../../recipes/queue/worker.ts';
import type { Duration } from '../../sdk/options.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { storeMissing } from '../support/store.ts';
import { type Actor, eventually, useWorld } from './world.ts';

describe.skipIf(storeMissing)('the key of a job', () => {
  const world = useWorld();
  const queueOf = (actor: Actor, name: string, options: QueueOptions<number> = {}) =>
    new Queue<number>(actor.context, name, options);
  const claimed = async (consumer: QueueConsumer<number>) => {
    const claim = await consumer.claim();
    if (claim === null) throw new Error('there should be a job');
    return claim;
  };
  /** A queue and a consumer of it, on a clock that stands still, and a key as the store has it. */
  const setUp = async () => {
    const clock = new ManualClock();
    const actor = await world.actor({ clock });
    const name = world.name();
    const queue = queueOf(actor, name);
    const consumer = new QueueConsumer<number>(actor.context, name);
    const marker = () => world.operator().kv.get(`${queueKeys(name).dedup}k`);
    const kinds = () => actor.faults.take().map(({ kind }) => kind);
    return { actor, clock, name, queue, consumer, marker, kinds };
  };
  /** Ends the time for which the key is remembered. */
  const overtake = async (marker: () => Promise<{ readonly lease: bigint } | null>) => {
    const { lease } = (await marker()) ?? {};
    if (lease === undefined || lease === 0n) throw new Error('nothing is remembered');
    await world.operator().leases.revoke(lease);
  };
  const key = 'k';
  const keyFor: Duration = '1h';

  test('is taken until the time is over once its job was done, for all clients', async () => {
    const { name, queue, consumer, marker } = await setUp();
    const { id } = await queue.push(1, { key, keyFor });
    expect(await queue.push(2, { key })).toEqual({ id, duplicate: true });
    expect(await marker()).toMatchObject({ lease: 0n });
    await (await claimed(consumer)).ack();
    const other = queueOf(await world.actor(), name);
    for (const options of [{ key }, { key, keyFor }, { key, keyFor, replace: true }]) {
      expect(await other.push(2, options)).toEqual({ id, duplicate: true });
    }
    expect(await other.pushMany([{ data: 3, key }, { data: 4 }])).toMatchObject([
      { id, duplicate: true },
      { duplicate: false },
    ]);
    expect(await queue.stats()).toMatchObject({ ready: 1, active: 0 });
    const { lease = 0n } = (await marker()) ?? {};
    const info = await world.operator().leases.timeToLive(lease);
    const hourMs = 3_600_000;
    expect(info?.ttlMs).toBeGreaterThan(hourMs);
    expect(info?.grantedTtlMs).toBeLessThanOrEqual(1.1 * hourMs);
    await overtake(marker);
    const again = await other.push(5, { key });
    expect(again).toMatchObject({ duplicate: false });
    expect(again.id).not.toBe(id);
    expect(await marker()).toMatchObject({ lease: 0n });
  });

  test('is the same job to all of one push: the unfinished one, the one that was done, or the first', async () => {
    const { queue, consumer } = await setUp();
    const twice = [{ data: 2, key }, { data: 3 }, { data: 4, key }];
    const { id } = await queue.push(1, { key, keyFor });
    const [unfinished, added, repeated] = await queue.pushMany(twice);
    expect([unfinished, repeated]).toEqual([
      { id, duplicate: true },
      { id, duplicate: true },
    ]);
    expect(added).toMatchObject({ duplicate: false });
    await (await claimed(consumer)).ack();
    const [done, , again] = await queue.pushMany(twice);
    expect([done, again]).toEqual([
      { id, duplicate: true },
      { id, duplicate: true },
    ]);
    const fresh = twice.map((job) => ('key' in job ? { ...job, key: 'other' } : job));
    const [first, , second] = await queue.pushMany(fresh);
    expect(first).toMatchObject({ duplicate: false });
    expect(second).toEqual({ id: first?.id, duplicate: true });
  });

  test('needs no room in a full queue where nothing is to be added', async () => {
    const { actor, name, consumer } = await setUp();
    const queue = queueOf(actor, name, { limits: { capacity: 2 } });
    const done = await queue.push(1, { key, keyFor });
    await (await claimed(consumer)).ack();
    const unfinished = await queue.push(2, { key: 'other' });
    const whenFull = 'fail';
    const [repeated, added] = await queue.pushMany([{ data: 3, key: 'other' }, { data: 4 }]);
    expect(repeated).toEqual({ ...unfinished, duplicate: true });
    expect(added).toMatchObject({ duplicate: false });
    expect(await queue.push(5, { key, whenFull })).toEqual({ ...done, duplicate: true });
    expect(await queue.push(5, { key: 'other' })).toEqual({ ...unfinished, duplicate: true });
    await expect(queue.push(5, { key: 'new', whenFull })).rejects.toMatchObject({ code: 'FULL' });
    // All or none: what needs no room does not make any.
    const some = queue.pushMany([{ data: 6, key }, { data: 7 }], { whenFull });
    await expect(some).rejects.toMatchObject({ code: 'FULL' });
    const waiting = queue.push(8, { key: 'new' });
    await (await claimed(consumer)).ack();
    expect(await waiting).toMatchObject({ duplicate: false });
  });

  test('takes room for its new job, which waits until the running one has stopped', async () => {
    const { name, queue, consumer } = await setUp();
    await queue.setLimits({ capacity: 2 });
    const { id } = await queue.push(1, { key });
    const running = await claimed(consumer);
    expect(await queue.push(2, { key, replace: true })).toMatchObject({ replaced: id });
    // One that has to look how many there are.
    const other = queueOf(await world.actor(), name);
    await expect(other.push(3, { whenFull: 'fail' })).rejects.toMatchObject({ code: 'FULL' });
    await running.stop();
    expect(await other.push(3, { whenFull: 'fail' })).toMatchObject({ duplicate: false });
    expect((await queue.stats()).ready).toBe(2);
  });

  test('costs one exchange more in each tenth of the time, and nothing where it is not asked for', async () => {
    const { actor, clock, queue, consumer, kinds } = await setUp();
    const grant = vi.spyOn(actor.client.leases, 'grant');
    for (const options of [
      { key: 'plain' },
      { key: 'a', keyFor: '10s' },
      { key: 'b', keyFor: '10s' },
    ]) {
      await queue.push(1, options);
    }
    const [plain, ...keyed] = await consumer.claimMany(3);
    kinds();
    await plain?.ack();
    expect([kinds(), grant.mock.calls.length]).toEqual([['txn'], 0]);
    for (const claim of keyed) await claim.ack();
    expect([kinds(), grant.mock.calls.length]).toEqual([['txn', 'txn'], 1]);
    await queue.push(1, { key: 'c', keyFor: '10s' });
    clock.advance(1_000);
    await (await claimed(new QueueConsumer<number>(actor.context, queue.name))).ack();
    expect(grant).toHaveBeenCalledTimes(2);
  });

  test('is free at once when its job was not done', async () => {
    const { queue, consumer, marker } = await setUp();
    const ends = [
      async (id: string) => void (await queue.cancel(id)),
      async () => (await claimed(consumer)).discard(),
      async () => (await claimed(consumer)).dead('why'),
      async (id: string) => {
        const claim = await claimed(consumer);
        await queue.cancel(id);
        await claim.stop();
      },
    ];
    for (const end of ends) {
      const { id, duplicate } = await queue.push(1, { key, keyFor });
      expect(duplicate).toBe(false);
      await end(id);
      expect(await marker()).toBeNull();
    }
  });

  test("a dead letter that is replayed and done has no key any more, and takes nobody else's", async () => {
    const { queue, consumer, marker } = await setUp();
    await queue.push(1, { key, keyFor });
    const dead = await claimed(consumer);
    await dead.dead('why');
    await queue.dead.replay(dead.id);
    const { id } = await queue.push(2, { key });
    const [first, second] = await consumer.claimMany(2);
    const [replayed, other] = first?.id === id ? [second, first] : [first, second];
    await replayed?.ack();
    expect(await marker()).toMatchObject({ lease: 0n });
    await other?.ack();
    expect(await marker()).toBeNull();
  });

  test('goes to the job that replaces a running one, though that is done all the same', async () => {
    const { queue, consumer, marker } = await setUp();
    const { id } = await queue.push(1, { key, keyFor });
    const running = await claimed(consumer);
    const next = await queue.push(2, { key, keyFor, replace: true });
    expect(next).toMatchObject({ duplicate: false, replaced: id });
    await running.look();
    await running.ack();
    const found = await marker();
    expect(Buffer.from(found?.value ?? []).toString()).toBe(next.id);
    expect(found?.lease).toBe(0n);
    expect(await queue.push(3, { key })).toEqual({ id: next.id, duplicate: true });
    await (await claimed(consumer)).ack();
    expect(await queue.push(3, { key })).toEqual({ id: next.id, duplicate: true });
  });

  test('travels with the job through retries, delays and crashes', async () => {
    const { actor, name, clock, queue, consumer, marker } = await setUp();
    const { id } = await queue.push(1, { key, keyFor, delay: 10 });
    clock.advance(20);
    await consumer.sweep();
    await (await claimed(consumer)).nack();
    const crashed = await world.actor();
    await claimed(new QueueConsumer<number>(crashed.context, name));
    await crashed.killLease();
    await consumer.sweep();
    await (await claimed(new QueueConsumer<number>(actor.context, name))).ack();
    expect((await marker())?.lease).not.toBe(0n);
    expect(await queue.push(1, { key })).toEqual({ id, duplicate: true });
  });

  test('is remembered though the lease it was to have is gone', async () => {
    const { queue, consumer, marker } = await setUp();
    await queue.push(1, { key: 'before', keyFor });
    await (await claimed(consumer)).ack();
    const before = await world.operator().kv.get(`${consumer.keys.dedup}before`);
    await world.operator().leases.revoke(before?.lease ?? 0n);
    const { id } = await queue.push(1, { key, keyFor });
    await (await claimed(consumer)).ack();
    expect(await queue.push(1, { key })).toEqual({ id, duplicate: true });
    expect((await marker())?.lease).not.toBe(0n);
  });

  test('drop the reply of every write: it is remembered once its job is done', async () => {
    const actor = await world.actor();
    const name = world.name();
    const [queue, consumer] = [
      queueOf(actor, name),
      new QueueConsumer<number>(actor.context, name),
    ];
    const { id } = await queue.push(1, { key, keyFor });
    const claim = await claimed(consumer);
    actor.faults.next('lose-answer');
    await claim.ack();
    actor.faults.heal();
    expect(await queue.push(1, { key })).toEqual({ id, duplicate: true });
    const marker = await world.operator().kv.get(`${queueKeys(name).dedup}k`);
    expect(marker?.lease).not.toBe(0n);
    expect(await queue.stats()).toMatchObject({ ready: 0, active: 0 });
  });

  test('a lease that the store does not grant in time leaves the claim to be settled again', async () => {
    const { actor, clock, queue, consumer } = await setUp();
    await queue.push(1, { key, keyFor: '2h' });
    const claim = await claimed(consumer);
    const silence = () => new Promise<never>(() => undefined);
    vi.spyOn(actor.client.leases, 'grant').mockImplementation(silence);
    const late = claim.ack(undefined, { timeout: 500 });
    const expected = expect(late).rejects.toMatchObject({
      code: 'TIMEOUT',
      outcome: 'not-applied',
    });
    await expect(claim.ack()).rejects.toMatchObject({ code: 'RELEASED' });
    clock.advance(500);
    await expected;
    claim.assertHeld();
    await claim.nack();
    expect(await queue.stats()).toMatchObject({ ready: 1, active: 0 });
  });

  test('a worker that keeps results remembers it as well', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    const worker = new Worker<number, string>(actor.context, name, () => 'done', {
      keepResults: '1m',
    });
    const { id } = await queue.push(1, { key, keyFor });
    expect(await queue.finished(id)).toBe('done');
    expect(await queue.push(1, { key })).toEqual({ id, duplicate: true });
    const { lease: remembered } =
      (await world.operator().kv.get(`${queueKeys(name).dedup}k`)) ?? {};
    const { lease: result } = (await world.operator().kv.get(queueKeys(name).result + id)) ?? {};
    // Each with a lease of its own: whichever is gone, the job is settled.
    await world.operator().leases.revoke(remembered ?? 0n);
    await world.operator().leases.revoke(result ?? 0n);
    const next = await queue.push(2, { key, keyFor });
    expect(next.duplicate).toBe(false);
    expect(await queue.finished(next.id)).toBe('done');
    expect(await queue.push(2, { key })).toEqual({ id: next.id, duplicate: true });
    await eventually('the job is settled', async () => (await queue.stats()).active === 0);
    await worker.close();
  });

  test.each<[string, object, string]>([
    ['without a key', { keyFor: '1h' }, "'keyFor': it must be left out, or used with a 'key'"],
    ['too short', { key: 'k', keyFor: '10ms' }, "at least '1s'"],
    ['no duration', { key: 'k', keyFor: 'soon' }, '"soon" as \'keyFor\''],
    ['misspelt', { key: 'k', keyfor: '1h' }, "did you mean 'keyFor'"],
  ])('is refused %s', async (_what, options, message) => {
    const queue = queueOf(await world.actor(), world.name());
    await expect(queue.push(1, options)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(message),
    });
    const flow = queue.pushFlow({ data: 1, ...options } as never);
    await expect(flow).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(await queue.stats()).toMatchObject({ ready: 0 });
  });
});
