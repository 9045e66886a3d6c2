/** What becomes of calls on a batched stream while large answers wait to be sent. */
import { expect, test } from 'vitest';
import { serveBatch } from '../../server/rpc/batch.ts';
import { kvMethods } from '../../server/rpc/kv.ts';
import type { UnaryMethod } from '../../server/rpc/method.ts';
import type { ServiceContext } from '../../server/rpc/services.ts';
import { CONTEXT_DEADLINE } from '../../server/rpc/status.ts';
import { OpenStreams } from '../../server/rpc/streams.ts';
import { Method } from '../../server/wire/conclave/v1/batch.ts';
import { DeleteRangeRequest, RangeRequest } from '../../server/wire/etcdserverpb/rpc.ts';
import { VirtualTime } from '../support/virtual-time.ts';
import { SlowStream } from './slow-stream.ts';

const LARGE_BYTES = 70 * 1024 * 1024;
const large = Buffer.alloc(LARGE_BYTES);

const method = (
  answersAtLength: boolean,
  invoke: (request: Uint8Array) => Promise<Buffer>,
): UnaryMethod => ({
  path: '/some',
  waits: false,
  answersAtLength: () => answersAtLength,
  invoke,
});

const open = () => {
  const time = new VirtualTime();
  const stream = new SlowStream();
  const made: string[] = [];
  const make = async (request: Uint8Array): Promise<Buffer> => {
    made.push(Buffer.from(request).toString());
    return Buffer.from('done');
  };
  const member = { electionTimeoutMs: 1_000, leader: 1n } as ConstructorParameters<
    typeof OpenStreams
  >[0];
  serveBatch(stream, {
    streams: new OpenStreams(member, time),
    clock: time,
    timers: time,
    needsLeader: false,
    takesParts: true,
    methods: new Map([
      [Method.RANGE, method(true, async () => large)],
      [Method.TXN, method(true, make)],
      [Method.PUT, method(false, make)],
    ]),
    onError: () => undefined,
  });
  const list = (id: number) => stream.receive({ id, method: Method.RANGE });
  const txn = (id: number, timeoutMs = 0) =>
    stream.receive({ id, method: Method.TXN, request: Buffer.from(`txn ${id}`), timeoutMs });
  const put = (id: number) =>
    stream.receive({ id, method: Method.PUT, request: Buffer.from(`put ${id}`) });
  const giveUp = (...ids: number[]) => stream.receive(...ids.map((id) => ({ id, cancel: true })));
  /** What the link carries while the server goes on. */
  const carry = async (messages: number) => {
    for (let count = 0; count < messages; count += 1) {
      await time.pass(1);
      stream.sendOne();
    }
  };
  const sentOf = (id: number) => stream.sent.flat().filter((answer) => answer.id === id);
  return { stream, made, list, txn, put, giveUp, carry, sentOf };
};

test('calls behind one answer of any size are made, and it is given up when its client says so', async () => {
  const { stream, list, txn, giveUp, carry, sentOf } = open();
  list(1);
  await carry(4);
  txn(2);
  await carry(6);
  expect(sentOf(2)).toMatchObject([{ code: 0, response: Buffer.from('done') }]);
  giveUp(1);
  await carry(10);
  expect(sentOf(1).length).toBeLessThan(15);
  expect(sentOf(1).every(({ more }) => more)).toBe(true);
  expect(stream.handedBytes).toBe(0);
});

test('calls that may be answered at length are held behind several, and can be given up meanwhile', async () => {
  const { made, list, txn, put, giveUp, carry, sentOf } = open();
  list(1);
  list(2);
  await carry(4);
  txn(3);
  txn(4);
  txn(5, 2);
  await carry(6);
  expect(made).toEqual([]);
  expect(sentOf(5)).toMatchObject([{ code: CONTEXT_DEADLINE.code }]);
  giveUp(4);
  await carry(4);
  expect([...sentOf(3), ...sentOf(4), ...made]).toEqual([]);
  put(6);
  await carry(4);
  expect(made.splice(0)).toEqual(['put 6']);
  expect(sentOf(6)).toMatchObject([{ code: 0 }]);
  giveUp(1);
  await carry(6);
  expect(made).toEqual(['txn 3']);
  expect(sentOf(3)).toMatchObject([{ code: 0 }]);
  expect([sentOf(4).length, sentOf(5).length]).toEqual([0, 1]);
  const partsBefore = [sentOf(1).length, sentOf(2).length];
  await carry(10);
  expect(sentOf(1).length).toBe(partsBefore[0]);
  expect(sentOf(2).length).toBe((partsBefore[1] ?? 0) + 10);
});

test('calls that are held begin by themselves when enough was sent', async () => {
  const { made, list, txn, carry } = open();
  list(1);
  list(2);
  await carry(4);
  txn(3);
  const messagesAbove = (2 * LARGE_BYTES - 64 * 1024 * 1024) / (64 * 1024);
  await carry(messagesAbove - 20);
  expect(made).toEqual([]);
  await carry(40);
  expect(made).toEqual(['txn 3']);
});

test('what may be answered at length: ranges, deletions that tell what was there, transactions', () => {
  const { range, put, deleteRange, txn } = kvMethods({} as ServiceContext);
  const key = Buffer.from('a');
  const rangeEnd = Buffer.from('b');
  const ofRange = (fields: Parameters<typeof RangeRequest.create>[0]): boolean =>
    range.answersAtLength(RangeRequest.encode(RangeRequest.create(fields)).finish());
  const ofDeletion = (fields: Parameters<typeof DeleteRangeRequest.create>[0]): boolean =>
    deleteRange.answersAtLength(
      DeleteRangeRequest.encode(DeleteRangeRequest.create(fields)).finish(),
    );
  expect([ofRange({ key }), ofRange({ key, rangeEnd })]).toEqual([false, true]);
  expect([ofDeletion({ key, prevKv: true }), ofDeletion({ key, rangeEnd })]).toEqual([
    false,
    false,
  ]);
  expect(ofDeletion({ key, rangeEnd, prevKv: true })).toBe(true);
  expect([put, txn].map((one) => one.answersAtLength(Buffer.alloc(0)))).toEqual([false, true]);
  expect(range.answersAtLength(Buffer.from('no message'))).toBe(false);
});
