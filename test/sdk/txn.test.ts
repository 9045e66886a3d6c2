import { afterAll, beforeAll, describe, expect, expectTypeOf, test } from 'vitest';
import { type Client, compare, connect, type KeyValue, op } from '../../sdk/index.ts';
import { storeMissing, useStore } from '../support/store.ts';
import { storeSystem } from '../support/store-choice.ts';

describe.skipIf(storeMissing)('transactions', () => {
  const { store } = useStore();
  let client: Client;
  let round = 0;
  beforeAll(async () => {
    client = await connect(store().endpoint);
  });
  afterAll(() => client.close());
  const fresh = () => client.namespace(`txn-${round++}/`).kv;

  test('the branch taken answers in the order and with the types of its operations', async () => {
    const kv = fresh();
    await kv.put('gone', '0');
    const result = await kv
      .txn()
      .if(compare.createRevision('a', '==', 0n))
      .then(
        op.put('a', '1', { prevKv: true }),
        op.get('a'),
        op.list({ prefix: '' }, { order: 'create', descending: true, limit: 1 }),
        op.count({ prefix: '' }),
        op.delete('gone', { prevKv: true }),
        op.txn(
          kv
            .txn()
            .if(compare.version('a', '==', 0n))
            .then(op.get('a'))
            .else(op.get('gone')),
        ),
      )
      .else(op.get('a'))
      .commit();
    if (!result.succeeded) throw new Error('the other branch ran');
    const [put, get, list, count, deleted, nested] = result.responses;
    expectTypeOf(get).toEqualTypeOf<KeyValue | null>();
    expectTypeOf(count).toEqualTypeOf<bigint>();
    expect(put).toEqual({ revision: result.revision });
    expect(get).toMatchObject({ key: 'a', createRevision: result.revision });
    expect(list).toMatchObject({ kvs: [{ key: 'a' }], count: 2n, more: true });
    expect(count).toBe(2n);
    expect(deleted).toMatchObject({ deleted: 1n, previous: [{ key: 'gone' }] });
    expect(nested).toMatchObject({ succeeded: true, responses: [{ key: 'a' }] });
    const again = await kv
      .txn()
      .if(compare.createRevision('a', '==', 0n))
      .then(op.put('a', '2'))
      .else(op.get('a'), op.get('b'))
      .commit();
    expect(again).toMatchObject({ succeeded: false, responses: [{ key: 'a' }, null] });
    expect(again.revision).toBe(result.revision);
  });

  test('every comparison', async () => {
    const kv = fresh();
    const { id } = await client.leases.grant('60s');
    const { revision } = await kv.put('a', 'm', { lease: id });
    await kv.put('a', 'm', { lease: id });
    await kv.put('q/1', 'x');
    await kv.put('q/2', 'x');
    const holds = async (...compares: Parameters<ReturnType<typeof kv.txn>['if']>) =>
      (
        await kv
          .txn()
          .if(...compares)
          .commit()
      ).succeeded;
    expect(await holds()).toBe(true);
    expect(await holds(compare.createRevision('a', '==', revision))).toBe(true);
    expect(await holds(compare.createRevision('a', '!=', revision))).toBe(false);
    expect(await holds(compare.modRevision('a', '>', revision))).toBe(true);
    expect(await holds(compare.modRevision('a', '<', revision))).toBe(false);
    expect(await holds(compare.version('a', '==', 2n))).toBe(true);
    expect(await holds(compare.lease('a', '==', id))).toBe(true);
    expect(await holds(compare.value('a', '==', 'm'))).toBe(true);
    expect(await holds(compare.value('a', '<', Buffer.from('n')))).toBe(true);
    expect(await holds(compare.value('absent', '!=', 'm'))).toBe(false);
    expect(await holds(compare.range.version({ prefix: 'q/' }, '==', 1n))).toBe(true);
    expect(await holds(compare.range.value({ prefix: 'q/' }, '==', 'x'))).toBe(true);
    expect(await holds(compare.range.version({ prefix: 'q/' }, '==', 0n))).toBe(false);
    expect(await holds(compare.range.createRevision({ prefix: 'empty/' }, '==', 0n))).toBe(true);
    expect(await holds(compare.version('a', '==', 2n), compare.version('a', '==', 3n))).toBe(false);
  });

  test.skipIf(storeSystem === 'etcd')('waits until a condition fails, and reads then', async () => {
    const kv = fresh();
    const { revision } = await kv.put('a', '1');
    const isThere = kv.txn().if(compare.createRevision('a', '==', revision));
    const told = isThere.else(op.get('a'), op.get('b')).whenFalse();
    await kv.put('a', '2');
    await kv.put('b', '3');
    await kv.delete('a');
    const { succeeded, responses } = await told;
    expect(succeeded).toBe(false);
    expect(responses).toMatchObject([null, { key: 'b' }]);
    const [late] = (await isThere.else(op.get('b')).whenFalse()).responses;
    expect(late).toMatchObject({ key: 'b' });
    const abort = new AbortController();
    const never = kv
      .txn()
      .if(compare.version('b', '==', 1n))
      .whenFalse(abort);
    abort.abort(new Error('enough'));
    await expect(never).rejects.toMatchObject({ code: 'ABORTED' });
    const wrong = kv
      .txn()
      .if(compare.version('b', '==', 1n))
      .else(op.put('c', ''))
      .whenFalse();
    await expect(wrong).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(await kv.get('c')).toBeNull();
  });

  test.skipIf(storeSystem === 'conclave')('etcd cannot be asked to wait', async () => {
    const never = fresh()
      .txn()
      .if(compare.version('b', '==', 0n))
      .whenFalse();
    await expect(never).rejects.toMatchObject({ code: 'UNIMPLEMENTED', retryable: false });
  });

  test('a transaction is a value: each step leaves the one before as it was', async () => {
    const kv = fresh();
    const base = kv.txn().then(op.put('a', '1'));
    const guarded = base.if(compare.version('a', '>', 5n));
    expect((await guarded.commit()).succeeded).toBe(false);
    expect((await base.commit()).succeeded).toBe(true);
    expect(base.parts.compares).toHaveLength(0);
  });

  test('refusals are typed and change nothing', async () => {
    const kv = fresh();
    const twice = kv.txn().then(op.put('a', '1'), op.put('a', '2'));
    await expect(twice.commit()).rejects.toMatchObject({ code: 'DUPLICATE_KEY' });
    const puts = Array.from({ length: 129 }, (_, index) => op.put(`k${index}`, ''));
    await expect(
      kv
        .txn()
        .then(...puts)
        .commit(),
    ).rejects.toMatchObject({
      code: 'TOO_MANY_OPERATIONS',
      outcome: 'not-applied',
    });
    const leased = kv.txn().then(op.put('a', '1', { lease: 4242n }));
    await expect(leased.commit()).rejects.toMatchObject({ code: 'LEASE_NOT_FOUND' });
    const large = kv.txn().then(op.put('a', Buffer.alloc(1_600_000)));
    await expect(large.commit()).rejects.toMatchObject({ code: 'TOO_LARGE' });
    expect(await kv.count({ all: true })).toBe(0n);
    const wrong = kv.txn().if({ ...compare.version('a', '==', 0n), operator: '=' as never });
    await expect(wrong.commit()).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });

  test('awaiting a transaction instead of committing it is refused', async () => {
    const mistake = fresh().txn() as unknown as Promise<unknown>;
    await expect(mistake).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });
});
