/** Reads that wait: when they are answered, with what, and what becomes of them otherwise. */
import { status } from '@grpc/grpc-js';
import { expect, test } from 'vitest';
import { type Answer, Answers, Calls, Method } from '../../server/wire/conclave/v1/batch.ts';
import { PutRequest, TxnRequest, TxnResponse } from '../../server/wire/etcdserverpb/rpc.ts';
import { Face } from '../support/face.ts';
import { waitFor } from '../support/wait.ts';
import { ByteStream } from './calls.ts';

type Request = Parameters<typeof TxnRequest.create>[0];
type CallFields = NonNullable<NonNullable<Parameters<typeof Calls.create>[0]>['calls']>[number];

const bytes = (text: string): Buffer => Buffer.from(text);
const created = (key: string, createRevision: bigint) => ({
  key: bytes(key),
  target: 1 as const,
  targetUnion: { $case: 'createRevision' as const, value: createRevision },
});
const read = (key: string) => ({
  request: { $case: 'requestRange' as const, value: { key: bytes(key), serializable: false } },
});
const encode = (request: Request) =>
  Buffer.from(TxnRequest.encode(TxnRequest.create(request)).finish());

class Waiter {
  readonly stream: ByteStream;
  readonly face: Face;

  constructor(face: Face) {
    this.face = face;
    this.stream = new ByteStream(face.raw(), '/conclave.v1.Batch/Exchange').read();
  }

  send(...calls: CallFields[]): void {
    this.stream.call.write(Buffer.from(Calls.encode(Calls.create({ calls })).finish()));
  }

  wait(id: number, request: Request): void {
    this.send({ id, method: Method.TXN_WHEN_FALSE, request: encode(request) });
  }

  put(id: number, key: string): void {
    const request = PutRequest.encode(PutRequest.create({ key: bytes(key) })).finish();
    this.send({ id, method: Method.PUT, request: Buffer.from(request) });
  }

  /** Resolves once the member has seen all that was sent. */
  async seen(id: number): Promise<void> {
    this.send({ id, method: Method.PING });
    await this.answer(id);
  }

  answers(): readonly Answer[] {
    return this.stream.received.flatMap((message) => Answers.decode(message).answers);
  }

  answer(id: number): Promise<Answer> {
    return waitFor(`answer ${id}`, () => this.answers().find((answer) => answer.id === id));
  }

  async told(id: number): Promise<TxnResponse> {
    const { response, code } = await this.answer(id);
    expect(code).toBe(0);
    return TxnResponse.decode(response);
  }
}

const put = (face: Face, key: string) =>
  face.member.applyNow({
    kind: 'put',
    key: bytes(key),
    value: bytes('v'),
    lease: 0n,
    prevKv: false,
    ignoreValue: false,
    ignoreLease: false,
  });
const remove = (face: Face, key: string) =>
  face.member.applyNow({
    kind: 'delete-range',
    key: bytes(key),
    rangeEnd: Buffer.alloc(0),
    prevKv: false,
  });

test('is answered when a condition stops to hold, with what the reads show then', async () => {
  await using face = await Face.open();
  const waiter = new Waiter(face);
  const { revision } = put(face, 'ahead');
  put(face, 'own');
  waiter.wait(1, {
    compare: [created('ahead', BigInt(revision)), created('own', BigInt(revision + 1))],
    failure: [read('own'), read('ahead')],
  });
  await waiter.seen(2);
  // Neither a write to another key nor one that leaves the conditions as they are.
  put(face, 'other');
  put(face, 'ahead');
  await waiter.seen(3);
  expect(waiter.answers().map(({ id }) => id)).toEqual([2, 3]);
  remove(face, 'ahead');
  const told = await waiter.told(1);
  expect(told.succeeded).toBe(false);
  expect(told.header?.revision).toBe(BigInt(revision + 4));
  const found = told.responses.map(({ response }) =>
    response?.$case === 'responseRange' ? response.value.kvs.map(({ key }) => `${key}`) : undefined,
  );
  expect(found).toEqual([['own'], []]);
  // Nothing listens any more.
  put(face, 'ahead');
  await waiter.seen(4);
  expect(waiter.answers()).toHaveLength(4);
});

test('looks once at a time, and again when something changed during a long look', async () => {
  await using face = await Face.open();
  const { member } = face;
  const waiter = new Waiter(face);
  const { revision } = put(face, 'ahead');
  let open: () => void = () => undefined;
  member.readGate = new Promise((resolve) => {
    open = resolve;
  });
  waiter.wait(1, { compare: [created('ahead', BigInt(revision))], failure: [read('ahead')] });
  await waitFor('the first look', () => (member.readTxns > 0 ? true : undefined));
  remove(face, 'ahead');
  for (let change = 0; change < 3; change += 1) put(face, 'ahead');
  await waiter.seen(2);
  expect(member.readTxns).toBe(1);
  open();
  expect((await waiter.told(1)).succeeded).toBe(false);
  expect(member.readTxns).toBe(2);
});

test('is answered at once when a condition does not hold, behind a read barrier', async () => {
  await using face = await Face.open();
  const waiter = new Waiter(face);
  const request = { compare: [created('absent', 7n)], failure: [read('absent')] };
  waiter.wait(1, request);
  expect((await waiter.told(1)).succeeded).toBe(false);
  face.member.leader = 0n;
  waiter.wait(2, request);
  expect((await waiter.answer(2)).error).toBe('etcdserver: no leader');
});

test('nothing is told before the barrier: what the member has may be older than what the client knows', async () => {
  await using face = await Face.open();
  const waiter = new Waiter(face);
  put(face, 'ahead');
  let open: () => void = () => undefined;
  face.member.gate = new Promise((resolve) => {
    open = resolve;
  });
  // The client has seen both keys, of which this member has one.
  const own = created('own', 5n);
  waiter.wait(1, { compare: [created('ahead', 2n), own], failure: [read('own')] });
  await waiter.seen(2);
  put(face, 'ahead');
  face.member.hub.installed(face.member.revision, face.member.compactRevision);
  put(face, 'other');
  put(face, 'own');
  await waiter.seen(3);
  expect(waiter.answers().map(({ id }) => id)).toEqual([2, 3]);
  open();
  await waiter.seen(4);
  expect(waiter.answers().map(({ id }) => id)).toEqual([2, 3, 4]);
  remove(face, 'ahead');
  expect((await waiter.told(1)).succeeded).toBe(false);
});

test('a state that was replaced is looked at again', async () => {
  await using face = await Face.open();
  const waiter = new Waiter(face);
  const { revision } = put(face, 'ahead');
  waiter.wait(1, { compare: [created('ahead', BigInt(revision))], failure: [read('ahead')] });
  await waiter.seen(2);
  const { machine, state, hub } = face.member;
  const { writes } = machine.apply(
    { index: 99, term: 2, nowMs: 0 },
    { kind: 'delete-range', key: bytes('ahead'), rangeEnd: Buffer.alloc(0), prevKv: false },
    state,
  );
  state.apply(99, writes);
  hub.installed(machine.revision, machine.compactRevision);
  expect((await waiter.told(1)).succeeded).toBe(false);
});

test('those that wait hold up neither other calls nor the end of the member', async () => {
  await using face = await Face.open();
  const waiter = new Waiter(face);
  const { revision } = put(face, 'ahead');
  const compare = [created('ahead', BigInt(revision))];
  const request = encode({ compare, failure: [read('ahead')] });
  const calls = Array.from({ length: 16_385 }, (_, index) => ({
    id: index + 1,
    method: Method.TXN_WHEN_FALSE,
    request,
  }));
  waiter.send(...calls);
  // One too many is refused, which says nothing about the others.
  const refused = await waiter.answer(16_385);
  expect(refused.code).toBe(status.RESOURCE_EXHAUSTED);
  waiter.put(20_000, 'other');
  expect((await waiter.answer(20_000)).code).toBe(0);
  waiter.send({ id: 1, cancel: true });
  await waiter.seen(20_001);
  waiter.wait(20_002, { compare, failure: [read('ahead')] });
  await waiter.seen(20_003);
  expect(waiter.answers()).toHaveLength(4);
  const closing = face.close(5_000);
  expect((await waiter.answer(2)).error).toBe('etcdserver: server stopped');
  await closing;
}, 60_000);

test('ends when there has been no leader for long: others may know more', async () => {
  await using face = await Face.open();
  const waiter = new Waiter(face);
  const { revision } = put(face, 'ahead');
  waiter.wait(1, { compare: [created('ahead', BigInt(revision))], failure: [read('ahead')] });
  await waiter.seen(2);
  face.member.leader = 0n;
  expect((await waiter.answer(1)).error).toBe('etcdserver: no leader');
});

test('what cannot be waited for is refused, with the field', async () => {
  await using face = await Face.open();
  const waiter = new Waiter(face);
  const write = { request: { $case: 'requestPut' as const, value: { key: bytes('x') } } };
  const condition = created('x', 1n);
  const wrong: readonly [Request, RegExp][] = [
    [{ failure: [read('x')] }, /compare must have/],
    [{ compare: [{ ...condition, rangeEnd: bytes('y') }] }, /compare must be on single keys/],
    [{ compare: [condition], success: [read('x')] }, /success must be empty/],
    [{ compare: [condition], failure: [write] }, /failure must have ranges only/],
  ];
  for (const [index, [request, text]] of wrong.entries()) {
    waiter.wait(index + 1, request);
    const { code, error } = await waiter.answer(index + 1);
    expect(code).toBe(status.INVALID_ARGUMENT);
    expect(error).toMatch(text);
  }
});
