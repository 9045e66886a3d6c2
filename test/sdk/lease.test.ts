import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Client, connect } from '../../sdk/index.ts';
import { storeMissing, useStore } from '../support/store.ts';

describe.skipIf(storeMissing)('leases', () => {
  const { store } = useStore();
  let client: Client;
  beforeAll(async () => {
    client = await connect(store().endpoint);
  });
  afterAll(() => client.close());

  test('granted, looked at, renewed, listed and revoked with their keys', async () => {
    const { leases, kv } = client;
    const { id, ttlMs } = await leases.grant('59.2s');
    expect(ttlMs).toBe(60_000);
    expect(id).toBeGreaterThan(0n);
    await kv.put('leased', '1', { lease: id });
    expect(await leases.timeToLive(id)).toMatchObject({ id, grantedTtlMs: 60_000, keys: [] });
    expect(await leases.timeToLive(id, { keys: true })).toMatchObject({
      keys: [Buffer.from('leased')],
    });
    expect(await leases.keepAlive(id)).toEqual({ ttlMs: 60_000 });
    expect(await leases.list()).toContain(id);
    await leases.revoke(id);
    expect(await kv.get('leased')).toBeNull();
    expect(await leases.keepAlive(id)).toEqual({ ttlMs: 0 });
    expect(await leases.timeToLive(id)).toBeNull();
    expect(await leases.list()).not.toContain(id);
    await expect(leases.revoke(id)).rejects.toMatchObject({ code: 'LEASE_NOT_FOUND' });
  });

  test.each(['auto', 'unary'] as const)('many at once are renewed, over %s', async (transport) => {
    await using own = await connect({ endpoints: store().endpoint, transport });
    const { leases } = own;
    const granted = await Promise.all(['60s', '61s', '62s'].map((ttl) => leases.grant(ttl)));
    const gone = granted[1]?.id ?? 0n;
    await leases.revoke(gone);
    const renewed = await Promise.all(granted.map(({ id }) => leases.keepAlive(id)));
    expect(renewed.map(({ ttlMs }) => ttlMs)).toEqual([60_000, 0, 62_000]);
    await Promise.all(granted.filter(({ id }) => id !== gone).map(({ id }) => leases.revoke(id)));
  });

  test('a renewal that cannot be sent fails alone', async () => {
    const { leases } = client;
    const { id } = await leases.grant('60s');
    const renewals = [leases.keepAlive(id), leases.keepAlive('seven' as never)];
    expect(await Promise.allSettled(renewals)).toMatchObject([
      { value: { ttlMs: 60_000 } },
      { status: 'rejected' },
    ]);
    await leases.revoke(id);
  });

  test('an id of the caller is taken once', async () => {
    const { leases } = client;
    const id = 2n ** 63n - 1n;
    expect(await leases.grant('60s', { id })).toEqual({ id, ttlMs: 60_000 });
    await expect(leases.grant('60s', { id })).rejects.toMatchObject({ code: 'LEASE_EXISTS' });
    await leases.revoke(id);
  });

  test.each([
    ['ttl', '0s', {}],
    ['ttl', 'long', {}],
    ['id', '5s', { id: 0n }],
    ['id', '5s', { id: 2n ** 63n }],
    ['id', '5s', { id: 7 as never }],
  ])('refuses a bad %s', async (field, ttl, options) => {
    await expect(client.leases.grant(ttl, options)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(`'${field}'`),
    });
  });
});
