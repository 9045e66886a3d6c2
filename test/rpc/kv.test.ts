import { Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { expect, test } from 'vitest';
import { RangeRequest, type TxnRequest } from '../../server/wire/etcdserverpb/rpc.ts';
import { Face } from '../support/face.ts';
import { refusal, unary } from './calls.ts';

const bytes = (text: string): Buffer => Buffer.from(text);
const key = bytes('k');

test('answers carry the header, and only the revision inside a transaction', async () => {
  await using face = await Face.open();
  const { kv } = face.wire();
  const put = await kv.put({ key, value: bytes('1') });
  expect(put.header).toEqual({ clusterId: 0xc0n, memberId: 0xabcn, revision: 2n, raftTerm: 2n });
  const nested = {
    request: {
      $case: 'requestTxn' as const,
      value: { success: [{ request: { $case: 'requestPut' as const, value: { key } } }] },
    },
  };
  const get = { request: { $case: 'requestRange' as const, value: { key } } };
  const txn = await kv.txn({ success: [get, nested] });
  expect(txn.header?.revision).toBe(3n);
  const [first, second] = txn.responses.map(({ response }) => response);
  const none = { clusterId: 0n, memberId: 0n, raftTerm: 0n };
  expect(first?.value.header).toEqual({ ...none, revision: 2n });
  expect(second?.value.header).toEqual({ ...none, revision: 0n });
});

test('a range of an older revision still answers with the newest in its header', async () => {
  await using face = await Face.open();
  const { kv } = face.wire();
  await kv.put({ key, value: bytes('1') });
  await kv.put({ key, value: bytes('2') });
  const old = await kv.range({ key, revision: 2n });
  expect(old.kvs[0]?.value).toEqual(bytes('1'));
  expect(old.header?.revision).toBe(3n);
});

test('odd numbers mean what they mean in etcd', async () => {
  await using face = await Face.open();
  const { kv } = face.wire();
  for (const name of ['a', 'b', 'c']) await kv.put({ key: bytes(name), value: bytes(name) });
  const range = (request: Parameters<typeof kv.range>[0]) =>
    kv.range({ key: bytes('a'), rangeEnd: bytes('z'), ...request });
  expect((await range({ limit: -1n })).kvs).toHaveLength(3);
  expect((await range({ limit: 2n ** 62n })).kvs).toHaveLength(3);
  expect((await range({ revision: -5n })).kvs).toHaveLength(3);
  expect((await range({ minModRevision: -(2n ** 63n) })).kvs).toHaveLength(3);
  expect((await range({ maxModRevision: 2n ** 63n - 1n })).kvs).toHaveLength(3);
  expect((await range({ minModRevision: 2n ** 63n - 1n })).kvs).toHaveLength(0);
  const cut = await range({ limit: 1n });
  expect([cut.kvs.length, cut.more, cut.count]).toEqual([1, true, 3n]);
  const inverted = await kv.range({ key: bytes('z'), rangeEnd: bytes('a') });
  expect([inverted.kvs, inverted.count, inverted.more]).toEqual([[], 0n, false]);
  expect((await kv.deleteRange({ key: bytes('z'), rangeEnd: bytes('a') })).deleted).toBe(0n);
});

const range = { key, sortOrder: 0, sortTarget: 0 } as const;

test.each<[string, Parameters<typeof RangeRequest.create>[0], number, string]>([
  ['an empty key', {}, 3, 'etcdserver: key is not provided'],
  ['an unknown sort order', { ...range, sortOrder: 7 as 0 }, 3, 'etcdserver: invalid sort option'],
  [
    'an unknown sort target',
    { ...range, sortTarget: -1 as 0 },
    3,
    'etcdserver: invalid sort option',
  ],
  [
    'a future revision',
    { ...range, revision: 99n },
    11,
    'etcdserver: mvcc: required revision is a future revision',
  ],
  [
    'a revision beyond every number',
    { ...range, revision: 2n ** 63n - 1n },
    11,
    'etcdserver: mvcc: required revision is a future revision',
  ],
])('a range with %s is refused', async (_, request, code, details) => {
  await using face = await Face.open();
  const answer = refusal(face.wire().kv.range(request ?? {}));
  expect(await answer).toEqual({ code, details });
});

test('writes are refused with the codes and texts of etcd', async () => {
  await using face = await Face.open();
  const { kv } = face.wire();
  const invalid = (details: string) => ({ code: status.INVALID_ARGUMENT, details });
  expect(await refusal(kv.put({ value: key }))).toEqual(invalid('etcdserver: key is not provided'));
  expect(await refusal(kv.put({ key, value: key, ignoreValue: true }))).toEqual(
    invalid('etcdserver: value is provided'),
  );
  expect(await refusal(kv.put({ key, lease: 9n, ignoreLease: true }))).toEqual(
    invalid('etcdserver: lease is provided'),
  );
  expect(await refusal(kv.put({ key, ignoreValue: true }))).toEqual(
    invalid('etcdserver: key not found'),
  );
  expect(await refusal(kv.put({ key, lease: -9n }))).toEqual({
    code: status.NOT_FOUND,
    details: 'etcdserver: requested lease not found',
  });
  expect(await refusal(kv.deleteRange({}))).toEqual(invalid('etcdserver: key is not provided'));
  const put = { request: { $case: 'requestPut' as const, value: { key } } };
  expect(await refusal(kv.txn({ success: [put, put] }))).toEqual(
    invalid('etcdserver: duplicate key given in txn request'),
  );
  expect(await refusal(kv.txn({ success: Array.from({ length: 129 }, () => put) }))).toEqual(
    invalid('etcdserver: too many operations in txn request'),
  );
  expect(await refusal(kv.txn({ success: [{}] }))).toEqual(invalid('etcdserver: key not found'));
  expect(await refusal(kv.txn({ compare: [{ key, result: 9 as 0 }] }))).toEqual(
    invalid('compare.result is 9: allowed are 0 to 3'),
  );
  expect(await refusal(kv.txn({ compare: [{ key, target: 5 as 0 }] }))).toEqual(
    invalid('compare.target is 5: allowed are 0 to 4'),
  );
  expect(await refusal(kv.compact({ revision: 99n }))).toEqual({
    code: status.OUT_OF_RANGE,
    details: 'etcdserver: mvcc: required revision is a future revision',
  });
  expect(face.member.revision).toBe(1);
});

test('a compare whose operand is of another type compares with zero', async () => {
  await using face = await Face.open();
  const txn: Parameters<typeof TxnRequest.create>[0] = {
    compare: [{ key, target: 0, targetUnion: { $case: 'value', value: bytes('x') } }],
  };
  expect((await face.wire().kv.txn(txn)).succeeded).toBe(true);
});

test('a read-only transaction needs no log entry, a serializable one no leader either', async () => {
  await using face = await Face.open();
  const { kv } = face.wire();
  const read = (serializable: boolean) => ({
    request: { $case: 'requestRange' as const, value: { key, serializable } },
  });
  await kv.txn({ success: [read(false)] });
  expect(face.member.lastIndex).toBe(0);
  face.member.leader = 0n;
  await kv.txn({ success: [read(true)] });
  const noLeader = { code: status.UNAVAILABLE, details: 'etcdserver: no leader' };
  const guard = {
    target: 2 as const,
    targetUnion: { $case: 'modRevision' as const, value: 1n },
  };
  expect(await refusal(kv.txn({ compare: [{ key, ...guard }] }))).toEqual(noLeader);
  expect(await refusal(kv.txn({ success: [read(true)], failure: [read(false)] }))).toEqual(
    noLeader,
  );
  expect(await refusal(kv.range({ key }))).toEqual(noLeader);
  await kv.range({ key, serializable: true });
});

test('a write above the size limit is refused by the store, far above it by the transport', async () => {
  await using face = await Face.open({ rpc: { maxRequestBytes: 10_000 } });
  const { kv } = face.wire();
  await kv.put({ key, value: Buffer.alloc(9_900) });
  expect(await refusal(kv.put({ key, value: Buffer.alloc(10_001) }))).toEqual({
    code: status.INVALID_ARGUMENT,
    details: 'etcdserver: request is too large',
  });
  const far = await refusal(kv.put({ key, value: Buffer.alloc(10_000 + 512 * 1024) }));
  expect(far.code).toBe(status.RESOURCE_EXHAUSTED);
});

test('bytes that are no message are refused, and the connection lives on', async () => {
  await using face = await Face.open();
  const raw = face.raw();
  for (const garbage of [
    Buffer.from([0xff]),
    Buffer.from([0x0a, 0x7f, 1]),
    Buffer.alloc(50, 0x80),
  ]) {
    const answer = await refusal(unary(raw, '/etcdserverpb.KV/Range', garbage));
    expect(answer.code).toBe(status.INTERNAL);
  }
  const good = Buffer.from(RangeRequest.encode(RangeRequest.create({ key })).finish());
  expect(await unary(raw, '/etcdserverpb.KV/Range', good)).toBeInstanceOf(Buffer);
});

test.each(['/etcdserverpb.KV/Nothing', '/etcdserverpb.kv/Range', '/etcdserverpb.KV//Range', '//'])(
  'an unknown path %s is UNIMPLEMENTED',
  async (path) => {
    await using face = await Face.open();
    expect((await refusal(unary(face.raw(), path, Buffer.alloc(0)))).code).toBe(
      status.UNIMPLEMENTED,
    );
  },
);

test('a client that asks for a leader is refused at once while there is none', async () => {
  await using face = await Face.open();
  const raw = face.raw();
  const request = Buffer.from(
    RangeRequest.encode(RangeRequest.create({ key, serializable: true })).finish(),
  );
  const call = (value: string) => {
    const metadata = new Metadata();
    metadata.set('hasleader', value);
    return unary(raw, '/etcdserverpb.KV/Range', request, metadata);
  };
  await call('true');
  face.member.leader = 0n;
  await call('false');
  expect(await refusal(call('true'))).toEqual({
    code: status.UNAVAILABLE,
    details: 'etcdserver: no leader',
  });
});

test('a learner answers serializable reads and its status, nothing else', async () => {
  await using face = await Face.open();
  face.member.isLearner = true;
  const { kv, maintenance, lease } = face.wire();
  const refused = {
    code: status.FAILED_PRECONDITION,
    details: 'etcdserver: rpc not supported for learner',
  };
  await kv.range({ key, serializable: true });
  expect((await maintenance.status({})).isLearner).toBe(true);
  expect(await refusal(kv.range({ key }))).toEqual(refused);
  expect(await refusal(kv.put({ key }))).toEqual(refused);
  expect(await refusal(lease.leaseLeases({}))).toEqual(refused);
});

test('a full store refuses what grows it and raises the alarm for all, but lets space come back', async () => {
  await using face = await Face.open();
  const { kv, lease, maintenance } = face.wire();
  const { ID } = await lease.leaseGrant({ TTL: 60n });
  await kv.put({ key, value: key });
  face.member.quotaBytes = face.member.usedBytes + 100;
  const full = {
    code: status.RESOURCE_EXHAUSTED,
    details: 'etcdserver: mvcc: database space exceeded',
  };
  const put = { request: { $case: 'requestPut' as const, value: { key } } };
  expect(await refusal(kv.put({ key, value: key }))).toEqual(full);
  expect(face.member.alarms).toEqual([{ memberId: 0xabcn, alarm: 'no-space' }]);
  // The alarm stands, whatever there is room for now.
  face.member.quotaBytes = 0;
  expect(await refusal(kv.put({ key, value: key }))).toEqual(full);
  expect(await refusal(kv.txn({ failure: [put] }))).toEqual(full);
  expect(await refusal(lease.leaseGrant({ TTL: 60n }))).toEqual(full);
  expect((await maintenance.status({})).errors).toEqual(['memberID:2748 alarm:NOSPACE ']);
  expect((await kv.range({ key })).count).toBe(1n);
  const remove = { request: { $case: 'requestDeleteRange' as const, value: { key } } };
  await kv.txn({ success: [remove] });
  await kv.deleteRange({ key });
  await kv.compact({ revision: BigInt(face.member.revision) });
  await lease.leaseRevoke({ ID });
  const disarmed = await maintenance.alarm({ action: 2, memberID: 0xabcn, alarm: 1 });
  expect(disarmed.alarms).toEqual([{ memberID: 0xabcn, alarm: 1 }]);
  await kv.put({ key, value: key });
});

test('a corrupt cluster refuses every write', async () => {
  await using face = await Face.open();
  const { kv, maintenance, lease } = face.wire();
  await maintenance.alarm({ action: 1, memberID: 5n, alarm: 2 });
  const corrupt = { code: status.DATA_LOSS, details: 'etcdserver: corrupt cluster' };
  expect(await refusal(kv.put({ key }))).toEqual(corrupt);
  expect(await refusal(kv.deleteRange({ key }))).toEqual(corrupt);
  expect(await refusal(lease.leaseGrant({ TTL: 5n }))).toEqual(corrupt);
  await kv.range({ key });
});

test('a deadline and a cancellation end the call at once', async () => {
  await using face = await Face.open();
  face.member.gate = new Promise(() => {});
  const { kv } = face.wire();
  const abort = new AbortController();
  const waiting = kv.range({ key }, { signal: abort.signal }).catch((error: Error) => error.name);
  abort.abort();
  expect(await waiting).toBe('AbortError');
  const late: ServiceError = await new Promise((resolve, reject) => {
    face.raw().makeUnaryRequest(
      '/etcdserverpb.KV/Put',
      (value: Buffer) => value,
      (value: Buffer) => value,
      Buffer.from([0x0a, 1, 0x6b]),
      new Metadata(),
      { deadline: Date.now() + 30 },
      (error) => (error === null ? reject(new Error('answered')) : resolve(error)),
    );
  });
  expect(late.code).toBe(status.DEADLINE_EXCEEDED);
});

test('an answer of many pieces arrives whole', async () => {
  for (const carrier of ['lean', 'grpc-js'] as const) {
    await using face = await Face.open({ rpc: { carrier } });
    const { kv } = face.wire();
    const names = Array.from({ length: 1_200 }, (_, index) => String(index).padStart(6, '0'));
    const longValue = (name: string) => bytes(name.repeat(200));
    for (let first = 0; first < names.length; first += 100) {
      const puts = names.slice(first, first + 100).map((name) => ({
        request: {
          $case: 'requestPut' as const,
          value: { key: bytes(name), value: longValue(name) },
        },
      }));
      await kv.txn({ success: puts });
    }
    const all = { key: bytes('0'), rangeEnd: bytes('1') };
    const { kvs, count, more, header } = await kv.range(all);
    expect([count, more, header?.revision]).toEqual([1_200n, false, 13n]);
    expect(kvs.map((each) => each.key.toString())).toEqual(names);
    expect(kvs.every((each, index) => each.value.equals(longValue(names[index] ?? '')))).toBe(true);
    expect(kvs.at(-1)).toMatchObject({ createRevision: 13n, modRevision: 13n, version: 1n });
    const page = await kv.range({ ...all, limit: 1_100n });
    expect([page.kvs.length, page.more, page.count]).toEqual([1_100, true, 1_200n]);
    const sorted = await kv.range({ ...all, sortOrder: 2 });
    expect(sorted.kvs.map((each) => each.key.toString())).toEqual(names.toReversed());
  }
});
