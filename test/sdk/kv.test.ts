import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Connection } from '../../sdk/connection.ts';
import { type Client, connect, json, type ListResult, op, text } from '../../sdk/index.ts';
import { Keyspace } from '../../sdk/keys.ts';
import { KvClient } from '../../sdk/kv-client.ts';
import type { WatchHub } from '../../sdk/watch-hub.ts';
import type { RangeRequest, RangeResponse } from '../../server/wire/etcdserverpb/rpc.ts';
import { storeMissing, useStore } from '../support/store.ts';
import { storeSystem } from '../support/store-choice.ts';

describe.skipIf(storeMissing)('keys and values', () => {
  const { store } = useStore();
  let client: Client;
  let round = 0;
  beforeAll(async () => {
    client = await connect(store().endpoint);
  });
  afterAll(() => client.close());
  const fresh = () => client.namespace(`kv-${round++}/`).kv;

  test('put returns its revision and, when asked, the key as it was', async () => {
    const kv = fresh();
    const first = await kv.put('a', 'one');
    expect(first).toEqual({ revision: expect.any(BigInt) });
    expect(await kv.put('a', 'two', { prevKv: true })).toMatchObject({
      revision: first.revision + 1n,
      previous: { key: 'a', version: 1n, createRevision: first.revision },
    });
    const third = await kv.put('b', new Uint8Array([0, 255]), { prevKv: true });
    expect(third).not.toHaveProperty('previous');
    expect(await kv.get('a')).toMatchObject({ key: 'a', version: 2n, lease: 0n });
    expect((await kv.get('b'))?.value).toEqual(Buffer.from([0, 255]));
  });

  test('a put keeps the value or the lease when told so, of a key that exists', async () => {
    const kv = fresh();
    const { id } = await client.leases.grant('60s');
    await kv.put('a', 'one', { lease: id });
    await kv.put('a', '', { ignoreValue: true });
    expect(await kv.get('a')).toMatchObject({ lease: 0n, value: Buffer.from('one') });
    await kv.put('a', 'two', { lease: id });
    await kv.put('a', 'three', { ignoreLease: true });
    expect(await kv.get('a')).toMatchObject({ lease: id, value: Buffer.from('three') });
    for (const options of [{ ignoreValue: true }, { ignoreLease: true }]) {
      await expect(kv.put('absent', '', options)).rejects.toMatchObject({ code: 'KEY_NOT_FOUND' });
    }
    await expect(kv.put('a', 'x', { ignoreValue: true })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining("'value'"),
    });
    await expect(kv.put('a', 'x', { ignoreLease: true, lease: id })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining("'lease'"),
    });
    await expect(kv.put('a', 'x', { lease: 12345n })).rejects.toMatchObject({
      code: 'LEASE_NOT_FOUND',
      outcome: 'not-applied',
      retryable: false,
    });
  });

  test('get reads the present, a past revision, text, or through a codec', async () => {
    const kv = fresh();
    const { revision } = await kv.put('a', '{"n":1}');
    await kv.put('a', '{"n":2}');
    expect(await kv.get('absent')).toBeNull();
    expect(await kv.getString('absent')).toBeNull();
    expect(await kv.getAs('absent', text())).toBeNull();
    expect(await kv.getString('a')).toBe('{"n":2}');
    expect(await kv.getString('a', { revision })).toBe('{"n":1}');
    expect(await kv.getString('a', { serializable: true })).toBe('{"n":2}');
    expect((await kv.getAs('a', json<{ n: number }>()))?.value.n).toBe(2);
    await kv.put('broken', '{');
    await expect(kv.getAs('broken', json())).rejects.toMatchObject({
      code: 'CODEC',
      message: expect.stringContaining("'broken'"),
    });
    await expect(kv.get('a', { revision: revision + 1_000_000n })).rejects.toMatchObject({
      code: 'FUTURE_REVISION',
    });
  });

  test('list takes a key, a prefix, a span or everything', async () => {
    const kv = fresh();
    for (const key of ['a', 'b/1', 'b/2', 'b0', 'c']) await kv.put(key, key);
    const keys = async (range: Parameters<typeof kv.list>[0]) =>
      (await kv.list(range)).kvs.map(({ key }) => key);
    expect(await keys('a')).toEqual(['a']);
    expect(await keys({ prefix: 'b/' })).toEqual(['b/1', 'b/2']);
    expect(await keys({ from: 'b/2', to: 'c' })).toEqual(['b/2', 'b0']);
    expect(await keys({ from: 'b0' })).toEqual(['b0', 'c']);
    expect(await keys({ all: true })).toEqual(['a', 'b/1', 'b/2', 'b0', 'c']);
    expect(await kv.count({ prefix: 'b' })).toBe(3n);
  });

  test('list cuts, orders, filters and leaves values out', async () => {
    const kv = fresh();
    const { revision } = await kv.put('b', 'z');
    await kv.put('a', 'y');
    await kv.put('c', 'x');
    await kv.put('b', 'zz');
    const all = { all: true } as const;
    const keys = async (options: Parameters<typeof kv.list>[1]) =>
      (await kv.list(all, options)).kvs.map(({ key }) => key).join('');
    expect(await kv.list(all, { limit: 2 })).toMatchObject({ count: 3n, more: true });
    expect(await kv.list(all)).toMatchObject({ count: 3n, more: false, revision: revision + 3n });
    expect(await keys({ limit: 2 })).toBe('ab');
    expect(await keys({ descending: true })).toBe('cba');
    expect(await keys({ order: 'create' })).toBe('bac');
    expect(await keys({ order: 'create', descending: true, limit: 2 })).toBe('ca');
    expect(await keys({ order: 'mod' })).toBe('acb');
    expect(await keys({ order: 'value' })).toBe('cab');
    expect(await keys({ order: 'version', descending: true, limit: 1 })).toBe('b');
    expect(await keys({ revision: revision + 1n })).toBe('ab');
    expect(await keys({ minModRevision: revision + 2n })).toBe('bc');
    expect(await keys({ maxModRevision: revision + 2n })).toBe('ac');
    expect(await keys({ minCreateRevision: revision + 1n })).toBe('ac');
    expect(await keys({ maxCreateRevision: revision + 1n })).toBe('ab');
    const { kvs } = await kv.list(all, { keysOnly: true });
    expect(kvs.map(({ value }) => value.length)).toEqual([0, 0, 0]);
  });

  test('a list whose count nobody wants finds the same', async () => {
    const kv = fresh();
    for (const key of ['a', 'b', 'c', 'd', 'e']) await kv.put(key, key);
    const range = { all: true } as const;
    const options = { limit: 2, uncounted: true } as const;
    const { responses } = await kv.txn().then(op.list(range, options)).commit();
    for (const listed of [await kv.list(range, options), responses[0]]) {
      expect((listed as ListResult).kvs.map(({ key }) => key)).toEqual(['a', 'b']);
      expect(listed).toMatchObject({ more: true, count: storeSystem === 'etcd' ? 5n : 3n });
    }
  });

  test('the pages of iterate ask for no count', async () => {
    const asked: RangeRequest[] = [];
    const header = { clusterId: 1n, memberId: 1n, revision: 7n, raftTerm: 1n };
    const emptyKv = {
      value: Buffer.alloc(0),
      createRevision: 1n,
      modRevision: 1n,
      version: 1n,
      lease: 0n,
    };
    const connection = {
      call: async (_: 'range', request: RangeRequest): Promise<RangeResponse> => {
        asked.push(request);
        const kv = { ...emptyKv, key: Buffer.from(`k${asked.length}`) };
        return { header, kvs: [kv], more: asked.length < 3, count: 0n };
      },
    };
    const kv = new KvClient(connection as unknown as Connection, new Keyspace(), {} as WatchHub);
    for await (const entry of kv.iterate({ all: true })) expect(entry.key).toBeDefined();
    expect(asked.map(({ uncounted, revision }) => [uncounted, revision])).toEqual([
      [true, 0n],
      [true, 7n],
      [true, 7n],
    ]);
  });

  test('iterate shows one revision, however many pages it takes', async () => {
    const kv = fresh();
    const names = Array.from({ length: 25 }, (_, index) => `k${String(index).padStart(2, '0')}`);
    for (const name of names) await kv.put(name, 'old');
    const seen: string[] = [];
    for await (const entry of kv.iterate({ all: true }, { pageSize: 4 })) {
      if (seen.length === 0) {
        await kv.put('k24', 'new');
        await kv.put('k99', 'new');
        await kv.delete('k10');
      }
      seen.push(`${entry.key}=${Buffer.from(entry.value)}`);
    }
    expect(seen).toEqual(names.map((name) => `${name}=old`));
    const none = [];
    for await (const entry of kv.iterate({ prefix: 'zz' })) none.push(entry);
    expect(none).toEqual([]);
  });

  test('delete tells what it deleted', async () => {
    const kv = fresh();
    await kv.put('a', '1');
    await kv.put('b/1', '2');
    await kv.put('b/2', '3');
    expect(await kv.delete('absent')).toMatchObject({ deleted: 0n, previous: [] });
    expect(await kv.delete({ prefix: 'b/' }, { prevKv: true })).toMatchObject({
      deleted: 2n,
      previous: [{ key: 'b/1' }, { key: 'b/2' }],
    });
    expect(await kv.delete('a')).toMatchObject({ deleted: 1n, previous: [] });
    expect(await kv.count({ all: true })).toBe(0n);
  });

  test('compaction forgets the past and says so', async () => {
    const kv = fresh();
    const { revision } = await kv.put('a', '1');
    const latest = await kv.put('a', '2');
    await kv.compact(latest.revision, { physical: true });
    await expect(kv.get('a', { revision })).rejects.toMatchObject({ code: 'COMPACTED' });
    await expect(kv.compact(revision)).rejects.toMatchObject({ code: 'COMPACTED' });
    await expect(kv.compact(latest.revision + 100n)).rejects.toMatchObject({
      code: 'FUTURE_REVISION',
    });
    expect(await kv.getString('a')).toBe('2');
  });

  test('a namespace is invisible from inside and a prefix from outside', async () => {
    const outer = client.namespace('ns/');
    const inner = outer.namespace('in/');
    await inner.kv.put('a', '1');
    await outer.kv.put('z', '2');
    expect(await client.kv.getString('ns/in/a')).toBe('1');
    expect((await inner.kv.list({ all: true })).kvs.map(({ key }) => key)).toEqual(['a']);
    expect((await inner.kv.list({ from: 'a' })).kvs).toHaveLength(1);
    expect((await outer.kv.list({ prefix: '' })).kvs.map(({ key }) => key)).toEqual(['in/a', 'z']);
    await inner.kv.delete({ all: true });
    expect(await outer.kv.count({ all: true })).toBe(1n);
  });

  test.each([
    ['an empty key', (kv: Client['kv']) => kv.get('')],
    ['a range for a key', (kv: Client['kv']) => kv.get({ prefix: 'a' } as never)],
    ['a limit of 0', (kv: Client['kv']) => kv.list({ all: true }, { limit: 0 })],
    ['an unknown order', (kv: Client['kv']) => kv.list('a', { order: 'size' as never })],
    ['a number for a revision', (kv: Client['kv']) => kv.get('a', { revision: 1 as never })],
    ['a number for a value', (kv: Client['kv']) => kv.put('a', 1 as never)],
    ['a bad timeout', (kv: Client['kv']) => kv.get('a', { timeout: '5 parsecs' })],
    ['a malformed range', (kv: Client['kv']) => kv.list({} as never)],
  ])('refuses %s', async (_, call) => {
    await expect(call(client.kv)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      outcome: 'not-applied',
      message: expect.stringMatching(/^Cannot use .* as '.*': it must be /),
    });
  });
});
