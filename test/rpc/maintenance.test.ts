import { createHash, randomBytes } from 'node:crypto';
import { status } from '@grpc/grpc-js';
import { createChannel, createClient } from 'nice-grpc';
import { expect, test } from 'vitest';
import { HealthDefinition } from '../../server/wire/health/health.ts';
import { Face } from '../support/face.ts';
import { refusal } from './calls.ts';

test('status', async () => {
  await using face = await Face.open();
  const { maintenance } = face.wire();
  const answer = await maintenance.status({});
  expect(answer).toMatchObject({ leader: 0xabcn, raftTerm: 2n, dbSize: 4_096n, errors: [] });
  // Patroni splits it at the dots into integers.
  expect(answer.version).toMatch(/^3\.6\.\d+$/);
  face.member.leader = 0n;
  expect((await maintenance.status({})).errors).toEqual(['etcdserver: no leader']);
});

test.each([0, 1, 511, 512, 32 * 1024, 32 * 1024 + 1, 300_000])(
  'a snapshot of %i bytes arrives in blobs, padded to sectors, with its hash at the end',
  async (size) => {
    await using face = await Face.open();
    face.member.snapshotPayload = randomBytes(size);
    const blobs: Buffer[] = [];
    const remaining: bigint[] = [];
    for await (const message of face.wire().maintenance.snapshot({})) {
      expect(message.blob.length).toBeLessThanOrEqual(32 * 1024);
      expect(message.blob.length).toBeGreaterThan(0);
      blobs.push(message.blob);
      remaining.push(message.remainingBytes);
    }
    const hash = blobs.pop();
    const payload = Buffer.concat(blobs);
    expect(payload.length % 512).toBe(0);
    expect(payload.subarray(0, size)).toEqual(face.member.snapshotPayload);
    expect(payload.length - size).toBeLessThan(512);
    expect(hash).toEqual(createHash('sha256').update(payload).digest());
    expect(remaining.pop()).toBe(0n);
    let left = payload.length;
    for (const [index, blob] of blobs.entries()) {
      left -= blob.length;
      expect(remaining[index]).toBe(BigInt(left));
    }
  },
);

test('move-leader: only the leader, only to a voting member', async () => {
  await using face = await Face.open();
  const { maintenance } = face.wire();
  const bad = {
    code: status.FAILED_PRECONDITION,
    details: 'etcdserver: bad leader transferee',
  };
  face.member.members.push(
    { id: 1n, name: 'b', peerUrls: [], clientUrls: [], isLearner: false, incarnation: 1n },
    { id: 2n, name: 'c', peerUrls: [], clientUrls: [], isLearner: true, incarnation: 1n },
  );
  expect(await refusal(maintenance.moveLeader({ targetID: 99n }))).toEqual(bad);
  expect(await refusal(maintenance.moveLeader({ targetID: 2n }))).toEqual(bad);
  await maintenance.moveLeader({ targetID: 1n });
  expect(face.member.movedTo).toBe(1n);
  face.member.leader = 1n;
  expect(await refusal(maintenance.moveLeader({ targetID: 1n }))).toEqual({
    code: status.FAILED_PRECONDITION,
    details: 'etcdserver: not leader',
  });
});

test('hashes', async () => {
  await using face = await Face.open();
  const { kv, maintenance } = face.wire();
  await kv.put({ key: Buffer.from('a') });
  const now = await maintenance.hashKV({});
  await kv.put({ key: Buffer.from('b') });
  expect(await maintenance.hashKV({ revision: 2n })).toMatchObject({ hash: now.hash });
  expect((await maintenance.hashKV({})).hash).not.toBe(now.hash);
  expect((await refusal(maintenance.hashKV({ revision: 9n }))).details).toBe(
    'etcdserver: mvcc: required revision is a future revision',
  );
  expect((await maintenance.hash({})).hash).toBe((await maintenance.hashKV({})).hash);
});

test('alarms: listed by kind, unknown kinds and actions refused', async () => {
  await using face = await Face.open();
  const { maintenance } = face.wire();
  await maintenance.alarm({ action: 1, memberID: 1n, alarm: 1 });
  await maintenance.alarm({ action: 1, memberID: 2n, alarm: 2 });
  expect((await maintenance.alarm({})).alarms).toHaveLength(2);
  expect((await maintenance.alarm({ alarm: 2 })).alarms).toEqual([{ memberID: 2n, alarm: 2 }]);
  expect((await maintenance.alarm({ action: 2, memberID: 9n, alarm: 2 })).alarms).toEqual([]);
  expect((await refusal(maintenance.alarm({ alarm: 9 as 0 }))).code).toBe(status.INVALID_ARGUMENT);
  expect((await refusal(maintenance.alarm({ action: 9 as 0, alarm: 1 }))).code).toBe(
    status.INVALID_ARGUMENT,
  );
});

test('what is not there says so', async () => {
  await using face = await Face.open();
  const { maintenance } = face.wire();
  expect((await refusal(maintenance.downgrade({}))).code).toBe(status.UNIMPLEMENTED);
  await maintenance.defragment({});
});

test('gRPC health', async () => {
  await using face = await Face.open();
  const channel = createChannel(face.endpoint);
  const health = createClient(HealthDefinition, channel);
  expect(await health.check({})).toEqual({ status: 1 });
  expect((await refusal(health.check({ service: 'x' }))).code).toBe(status.NOT_FOUND);
  const abort = new AbortController();
  const seen: number[] = [];
  const watched = (async () => {
    for await (const answer of health.watch({}, { signal: abort.signal })) {
      seen.push(answer.status);
      abort.abort();
    }
  })();
  await watched.catch(() => {});
  expect(seen).toEqual([1]);
  channel.close();
});

test('a stopping member refuses what is new and answers what is under way', async () => {
  await using face = await Face.open();
  const { kv } = face.wire();
  await kv.put({ key: Buffer.from('a') });
  let open = () => {};
  face.member.gate = new Promise((resolve) => {
    open = resolve;
  });
  const underWay = kv.put({ key: Buffer.from('b') });
  await expect.poll(() => face.member.waiting).toBe(1);
  face.member.isStopping = true;
  expect(await refusal(kv.put({ key: Buffer.from('c') }))).toEqual({
    code: status.UNAVAILABLE,
    details: 'etcdserver: no leader',
  });
  const closed = face.close(5_000);
  open();
  expect((await underWay).header?.revision).toBe(3n);
  await closed;
});
