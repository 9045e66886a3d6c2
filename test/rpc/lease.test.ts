import { status } from '@grpc/grpc-js';
import { expect, test } from 'vitest';
import {
  LeaseKeepAliveRequest,
  LeaseKeepAliveResponse,
} from '../../server/wire/etcdserverpb/rpc.ts';
import { Face } from '../support/face.ts';
import { ByteStream, refusal } from './calls.ts';

const PATH = '/etcdserverpb.Lease/LeaseKeepAlive';

const renewal = (ID: bigint): Buffer =>
  Buffer.from(LeaseKeepAliveRequest.encode(LeaseKeepAliveRequest.create({ ID })).finish());

test('an id of 0 becomes a positive random one; negative ids are taken as they are', async () => {
  await using face = await Face.open();
  const { lease } = face.wire();
  const first = await lease.leaseGrant({ TTL: 60n });
  const second = await lease.leaseGrant({ TTL: 60n });
  expect(first.ID).toBeGreaterThan(0n);
  expect(second.ID).toBeGreaterThan(0n);
  expect(second.ID).not.toBe(first.ID);
  expect((await lease.leaseGrant({ ID: -7n, TTL: 60n })).ID).toBe(-7n);
  expect((await lease.leaseLeases({})).leases).toHaveLength(3);
});

test('short and negative times become the minimum, too long ones are refused', async () => {
  await using face = await Face.open();
  const { lease } = face.wire();
  expect((await lease.leaseGrant({ TTL: -5n })).TTL).toBe(2n);
  expect((await lease.leaseGrant({ TTL: 9_000_000_000n })).TTL).toBe(9_000_000_000n);
  expect(await refusal(lease.leaseGrant({ TTL: 9_000_000_001n }))).toEqual({
    code: status.OUT_OF_RANGE,
    details: 'etcdserver: too large lease TTL',
  });
  await lease.leaseGrant({ ID: 3n, TTL: 5n });
  expect(await refusal(lease.leaseGrant({ ID: 3n, TTL: 5n }))).toEqual({
    code: status.FAILED_PRECONDITION,
    details: 'etcdserver: lease already exists',
  });
  expect(await refusal(lease.leaseRevoke({ ID: 4n }))).toEqual({
    code: status.NOT_FOUND,
    details: 'etcdserver: requested lease not found',
  });
});

test('time to live: granted and keys for a lease, -1 for one that is not there', async () => {
  await using face = await Face.open();
  const { kv, lease } = face.wire();
  await lease.leaseGrant({ ID: 3n, TTL: 50n });
  for (const key of ['b', 'a']) await kv.put({ key: Buffer.from(key), lease: 3n });
  const live = await lease.leaseTimeToLive({ ID: 3n, keys: true });
  expect(live).toMatchObject({ ID: 3n, TTL: 50n, grantedTTL: 50n });
  expect(live.keys.map(String)).toEqual(['a', 'b']);
  expect((await lease.leaseTimeToLive({ ID: 3n })).keys).toEqual([]);
  expect(await lease.leaseTimeToLive({ ID: 4n })).toMatchObject({
    ID: 4n,
    TTL: -1n,
    grantedTTL: 0n,
  });
});

test('renewals are answered in order, a lost lease with 0, and half-close ends the stream', async () => {
  await using face = await Face.open();
  await face.wire().lease.leaseGrant({ ID: 3n, TTL: 50n });
  const stream = new ByteStream(face.raw(), PATH).read();
  for (const id of [3n, 4n, 3n]) stream.call.write(renewal(id));
  stream.call.end();
  expect((await stream.ended).code).toBe(status.OK);
  const answers = stream.received.map((message) => LeaseKeepAliveResponse.decode(message));
  expect(answers.map(({ ID, TTL }) => [ID, TTL])).toEqual([
    [3n, 50n],
    [4n, 0n],
    [3n, 50n],
  ]);
  expect(answers[0]?.header).toMatchObject({ revision: 1n, raftTerm: 2n });
  expect(face.rpc.openStreams).toBe(0);
});

test('a failed renewal ends the stream with its reason', async () => {
  await using face = await Face.open();
  const stream = new ByteStream(face.raw(), PATH).read();
  face.member.leader = 0n;
  stream.call.write(renewal(3n));
  expect(await stream.ended).toEqual({
    code: status.UNAVAILABLE,
    details: 'etcdserver: no leader',
  });
});

test('a flood of renewals is answered in full', async () => {
  await using face = await Face.open();
  await face.wire().lease.leaseGrant({ ID: 3n, TTL: 50n });
  const stream = new ByteStream(face.raw(), PATH).read();
  for (let count = 0; count < 5_000; count += 1) stream.call.write(renewal(3n));
  stream.call.end();
  expect((await stream.ended).code).toBe(status.OK);
  expect(stream.received).toHaveLength(5_000);
});

test('a client that goes away leaves nothing behind', async () => {
  await using face = await Face.open();
  const stream = new ByteStream(face.raw(), PATH).read();
  stream.call.write(renewal(3n));
  await stream.until((received) => received.length === 1);
  stream.call.cancel();
  await expect.poll(() => face.rpc.openStreams).toBe(0);
});
