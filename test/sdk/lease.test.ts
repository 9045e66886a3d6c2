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
