/** Writes that count once, on the batched stream. */
import { status } from '@grpc/grpc-js';
import { expect, test } from 'vitest';
import {
  type Answer,
  Answers,
  Calls,
  ClientForgetRequest,
  ClientRegisterResponse,
  Method,
} from '../../server/wire/conclave/v1/batch.ts';
import {
  DeleteRangeRequest,
  DeleteRangeResponse,
  PutRequest,
  PutResponse,
  TxnRequest,
  TxnResponse,
} from '../../server/wire/etcdserverpb/rpc.ts';
import { Face } from '../support/face.ts';
import { waitFor } from '../support/wait.ts';
import { ByteStream } from './calls.ts';

const nothing = Buffer.alloc(0);
const key = Buffer.from('k');
const put = (value: string): Buffer =>
  Buffer.from(PutRequest.encode(PutRequest.create({ key, value: Buffer.from(value) })).finish());
const remove = Buffer.from(DeleteRangeRequest.encode(DeleteRangeRequest.create({ key })).finish());

type CallInput = NonNullable<NonNullable<Parameters<typeof Calls.create>[0]>['calls']>[number];

class Client {
  readonly #stream: ByteStream;
  #asked = 0;
  #id = 0n;

  constructor(face: Face) {
    this.#stream = new ByteStream(face.raw(), '/conclave.v1.Batch/Exchange').read();
  }

  static async register(face: Face): Promise<Client> {
    const client = new Client(face);
    const { response } = await client.call({ method: Method.CLIENT_REGISTER, request: nothing });
    client.#id = ClientRegisterResponse.decode(response).clientId;
    return client;
  }

  get id(): bigint {
    return this.#id;
  }

  /** Waits for no answer. */
  begin(call: CallInput, id = this.#asked++, floor = 0n): number {
    const message = Calls.create({ calls: [{ ...call, id }], floor });
    this.#stream.call.write(Buffer.from(Calls.encode(message).finish()));
    return id;
  }

  async call(call: CallInput, floor = 0n): Promise<Answer> {
    const id = this.begin(call, undefined, floor);
    const answered = () =>
      this.#stream.received
        .flatMap((bytes) => Answers.decode(bytes).answers)
        .find((answer) => answer.id === id);
    await this.#stream.until(() => answered() !== undefined);
    const answer = answered();
    if (answer === undefined) throw new Error('no answer');
    return answer;
  }

  numbered(sequence: bigint, method: Method, request: Buffer, floor = 0n): Promise<Answer> {
    return this.call({ method, request, clientId: this.#id, sequence }, floor);
  }
}

const revisionOf = (answer: Answer): bigint | undefined =>
  PutResponse.decode(answer.response).header?.revision;

test('a repeated write gets its first answer and changes nothing', async () => {
  await using face = await Face.open();
  const client = await Client.register(face);
  const first = await client.numbered(1n, Method.PUT, put('a'));
  expect(revisionOf(first)).toBe(2n);
  expect(revisionOf(await client.numbered(1n, Method.PUT, put('a')))).toBe(2n);
  expect(revisionOf(await client.numbered(2n, Method.PUT, put('b')))).toBe(3n);
  const gone = await client.numbered(3n, Method.DELETE_RANGE, remove);
  const again = await client.numbered(3n, Method.DELETE_RANGE, remove);
  expect(DeleteRangeResponse.decode(again.response)).toEqual(
    DeleteRangeResponse.decode(gone.response),
  );
  expect(face.member.revision).toBe(4);
});

test('a repeated refusal stays one', async () => {
  await using face = await Face.open();
  const client = await Client.register(face);
  const request = Buffer.from(
    PutRequest.encode(PutRequest.create({ key, ignoreValue: true })).finish(),
  );
  const refused = { code: status.INVALID_ARGUMENT, error: 'etcdserver: key not found' };
  expect(await client.numbered(1n, Method.PUT, request)).toMatchObject(refused);
  await client.numbered(2n, Method.PUT, put('now it is there'));
  expect(await client.numbered(1n, Method.PUT, request)).toMatchObject(refused);
});

test('below the floor answers are forgotten, and unknown clients are told', async () => {
  await using face = await Face.open();
  const client = await Client.register(face);
  await client.numbered(1n, Method.PUT, put('a'));
  await client.numbered(2n, Method.PUT, put('b'), 2n);
  expect(await client.numbered(1n, Method.PUT, put('a'), 2n)).toMatchObject({
    code: status.FAILED_PRECONDITION,
    error: 'conclave: sequence forgotten',
  });
  const stranger = { method: Method.PUT, request: put('x'), clientId: client.id + 1n };
  expect(await client.call({ ...stranger, sequence: 1n })).toMatchObject({
    code: status.FAILED_PRECONDITION,
    error: 'conclave: unknown client',
  });
});

test('a write refused for want of space was not applied, and never will be', async () => {
  await using face = await Face.open();
  const client = await Client.register(face);
  const applied = await client.numbered(1n, Method.PUT, put('a'));
  face.member.quotaBytes = 1;
  const full = {
    code: status.RESOURCE_EXHAUSTED,
    error: 'etcdserver: mvcc: database space exceeded',
  };
  expect(await client.numbered(2n, Method.PUT, put('b'))).toMatchObject(full);
  // One that took effect before is no refusal, whatever the store is like now.
  expect(revisionOf(await client.numbered(1n, Method.PUT, put('a')))).toBe(revisionOf(applied));
  face.member.quotaBytes = 0;
  face.member.applyNow({
    kind: 'alarm',
    action: 'deactivate',
    memberId: face.member.memberId,
    alarm: 'no-space',
  });
  expect(await client.numbered(2n, Method.PUT, put('b'))).toMatchObject(full);
  expect(revisionOf(await client.numbered(3n, Method.PUT, put('c')))).toBe(3n);
});

test.each([
  ['no-space', status.RESOURCE_EXHAUSTED],
  ['corrupt', status.DATA_LOSS],
] as const)(
  'a refusal for %s that is under way does not raise the alarm again',
  async (alarm, code) => {
    await using face = await Face.open();
    const { member } = face;
    const client = await Client.register(face);
    const set = (action: 'activate' | 'deactivate') =>
      member.applyNow({ kind: 'alarm', action, memberId: member.memberId, alarm });
    set('activate');
    let open = (): void => undefined;
    member.gate = new Promise((resolve) => {
      open = resolve;
    });
    const refused = client.numbered(1n, Method.PUT, put('a'));
    await waitFor('the refusal to be proposed', () => member.waiting === 1 || undefined);
    set('deactivate');
    open();
    expect((await refused).code).toBe(code);
    expect(member.alarms).toEqual([]);
    // No attempt at it can take effect any more; others can.
    expect((await client.numbered(1n, Method.PUT, put('a'))).code).toBe(code);
    expect(revisionOf(await client.numbered(2n, Method.PUT, put('b')))).toBe(2n);
  },
);

test('a refusal that a version before recorded as an alarm stays one', async () => {
  await using face = await Face.open();
  const { member } = face;
  const client = await Client.register(face);
  const call = { id: client.id, sequence: 1, floor: 1 };
  const alarm = { kind: 'alarm', memberId: member.memberId, alarm: 'no-space' } as const;
  member.applyNow({ ...alarm, action: 'activate' }, call);
  member.applyNow({ ...alarm, action: 'deactivate' });
  expect((await client.numbered(1n, Method.PUT, put('a'))).code).toBe(status.RESOURCE_EXHAUSTED);
});

test('a number belongs to one call', async () => {
  await using face = await Face.open();
  const client = await Client.register(face);
  await client.numbered(1n, Method.PUT, put('a'));
  const answer = await client.numbered(1n, Method.DELETE_RANGE, remove);
  expect(answer).toMatchObject({
    code: status.INVALID_ARGUMENT,
    error: expect.stringContaining('belongs to a put'),
  });
});

test('what only reads needs no number', async () => {
  await using face = await Face.open();
  const client = await Client.register(face);
  const request = TxnRequest.create({
    success: [{ request: { $case: 'requestRange', value: { key } } }],
  });
  const bytes = Buffer.from(TxnRequest.encode(request).finish());
  const read = await client.numbered(1n, Method.TXN, bytes);
  expect(TxnResponse.decode(read.response).succeeded).toBe(true);
  expect(revisionOf(await client.numbered(1n, Method.PUT, put('a')))).toBe(2n);
});

test('clients are forgotten when they ask for it, once and again', async () => {
  await using face = await Face.open();
  const client = await Client.register(face);
  const request = Buffer.from(ClientForgetRequest.encode({ clientId: client.id }).finish());
  const forget = { method: Method.CLIENT_FORGET, request };
  expect((await client.call(forget)).code).toBe(0);
  expect((await client.call(forget)).code).toBe(0);
  expect((await client.numbered(1n, Method.PUT, put('a'))).error).toBe('conclave: unknown client');
});

test('a client is forgotten whose registration nobody waits for any more', async () => {
  await using face = await Face.open();
  const { member } = face;
  let open = (): void => undefined;
  member.gate = new Promise((resolve) => {
    open = resolve;
  });
  const client = new Client(face);
  client.begin({ method: Method.CLIENT_REGISTER, request: nothing });
  await waitFor('the registration', () => member.waiting === 1 || undefined);
  client.begin({ method: Method.UNSPECIFIED, request: nothing, cancel: true }, 0);
  // Answered after the cancellation was read.
  await client.call({ method: Method.PING, request: nothing });
  open();
  await waitFor('the end of the client', () => member.appliedIndex === 2 || undefined);
  expect(member.machine.clients.size).toBe(0);
});

test('a ping is answered whatever the member waits for', async () => {
  await using face = await Face.open();
  face.member.leader = 0n;
  face.member.isLearner = true;
  const client = new Client(face);
  expect(await client.call({ method: Method.PING, request: nothing })).toMatchObject({ code: 0 });
});
