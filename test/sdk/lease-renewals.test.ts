/** Renewals that are asked for in one go: how they travel, and what each is told. */
import { Status } from 'nice-grpc-common';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { connectOver } from '../../sdk/connect.ts';
import type { Client } from '../../sdk/index.ts';
import type { RequestOf } from '../../sdk/methods.ts';
import { FakeTransportMember, openFake } from '../support/fake-transport.ts';
import { ManualClock } from '../support/manual-clock.ts';

const gone = 13n;
const clock = new ManualClock();
let member: FakeTransportMember;
let client: Client;

beforeEach(async () => {
  member = new FakeTransportMember('a');
  member.onCall = ({ method, request, answer }) => {
    if (method === 'leaseKeepAlive') {
      const { ID } = request as RequestOf<'leaseKeepAlive'>;
      answer({ ID, TTL: ttlOf(ID) });
    } else if (method === 'leaseKeepAliveMany') {
      const { ids } = request as RequestOf<'leaseKeepAliveMany'>;
      answer({ ttlSeconds: ids.map(ttlOf) });
    }
  };
  client = await connectOver(
    { openTransport: openFake([member], clock) },
    { endpoints: ['a'], clock, random: () => 0, retry: { minDelay: 0, maxDelay: 0 } },
  );
});

afterEach(() => client.close());

/** Each lease has a time of its own, so that answers cannot be mixed up unseen. */
const ttlOf = (id: bigint): bigint => (id === gone ? 0n : id);
const idsTo = (count: number): bigint[] =>
  Array.from({ length: count }, (_, index) => BigInt(index + 1));
const renewAll = (ids: readonly bigint[]) =>
  Promise.all(ids.map((id) => client.leases.keepAlive(id)));
const renewalsOf = (ids: readonly bigint[]) =>
  ids.map((id) => ({ ttlMs: Number(ttlOf(id)) * 1_000 }));
const methodsCalled = () => member.calls.map(({ method }) => method);

test('they share calls, and each gets its own answer', async () => {
  const ids = idsTo(2_500);
  expect(await renewAll(ids)).toEqual(renewalsOf(ids));
  expect(methodsCalled()).toEqual(Array.from({ length: 3 }, () => 'leaseKeepAliveMany'));
  const sizes = member.calls.map(({ request }) => (request as { ids: bigint[] }).ids.length);
  expect(sizes).toEqual([1_024, 1_024, 452]);
});

test('one alone, or with a signal, goes by itself', async () => {
  const { signal } = new AbortController();
  await client.leases.keepAlive(1n);
  await Promise.all([client.leases.keepAlive(2n, { signal }), client.leases.keepAlive(3n)]);
  expect(methodsCalled()).toEqual(Array.from({ length: 3 }, () => 'leaseKeepAlive'));
});

test('a store that renews one by one is asked so from then on', async () => {
  const { onCall } = member;
  member.onCall = (call) => {
    if (call.method === 'leaseKeepAliveMany') call.fail(Status.UNIMPLEMENTED, 'not served');
    else onCall(call);
  };
  const ids = idsTo(3);
  expect(await renewAll(ids)).toEqual(renewalsOf(ids));
  expect(await renewAll(ids)).toEqual(renewalsOf(ids));
  const alone = Array.from({ length: 6 }, () => 'leaseKeepAlive');
  expect(methodsCalled()).toEqual(['leaseKeepAliveMany', ...alone]);
});

test('a lost call is made again, lease by lease', async () => {
  const { onCall } = member;
  member.onCall = (call) => {
    if (call.method === 'leaseKeepAliveMany')
      call.fail(Status.UNAVAILABLE, 'etcdserver: no leader');
    else onCall(call);
  };
  const ids = idsTo(20);
  expect(await renewAll(ids)).toEqual(renewalsOf(ids));
});

test('all are told when their time is over, and those with more of it wait on', async () => {
  member.onCall = () => undefined;
  const outcomes = Promise.allSettled([
    client.leases.keepAlive(1n, { timeout: 100 }),
    client.leases.keepAlive(2n, { timeout: 100 }),
    client.leases.keepAlive(3n, { timeout: 300 }),
    client.leases.keepAlive(4n, { timeout: 300 }),
  ]);
  await Promise.resolve();
  clock.advance(100);
  member.calls.at(-1)?.answer({ ttlSeconds: [3n, 4n] });
  expect(await outcomes).toMatchObject([
    { reason: { code: 'TIMEOUT' } },
    { reason: { code: 'TIMEOUT' } },
    { value: { ttlMs: 3_000 } },
    { value: { ttlMs: 4_000 } },
  ]);
});
