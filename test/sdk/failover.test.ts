/** Leaving a member that cannot serve, on virtual time: how soon, and what becomes of calls under way. */
import { Status } from 'nice-grpc-common';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { connectOver } from '../../sdk/connect.ts';
import type { Client } from '../../sdk/index.ts';
import { memoryMs } from '../../sdk/write-numbers.ts';
import { FakeTransportMember, openFake } from '../support/fake-transport.ts';
import { ManualClock } from '../support/manual-clock.ts';

const header = { clusterId: 1n, memberId: 1n, revision: 7n, raftTerm: 1n };
const noLeader = 'etcdserver: no leader';

let clock: ManualClock;
let members: FakeTransportMember[];
let client: Client | undefined;

beforeEach(() => {
  clock = new ManualClock();
  members = ['a', 'b', 'c'].map((name) => new FakeTransportMember(name));
  for (const member of members) serve(member);
});

afterEach(async () => {
  for (const member of members) serve(member);
  await driven(client?.close() ?? Promise.resolve());
});

/** Answers everything at once. */
const serve = (member: FakeTransportMember) => {
  member.onCall = ({ method, answer }) => {
    if (method === 'clientRegister') answer({ clientId: 5n, ttlSeconds: 900, window: 0 });
    else answer({ header, kvs: [], prevKvs: [], count: 0n, more: false, TTL: 30n, ID: 1n });
  };
};

/** Lets everything that is ready run. */
const settle = async () => {
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
};

const pass = async (ms: number, stepMs = 5) => {
  for (let passed = 0; passed < ms; passed += stepMs) {
    await settle();
    clock.advance(Math.min(stepMs, ms - passed));
  }
  await settle();
};

/** Time passes until the work is done; its result and how long it took. */
const timed = async <T>(work: Promise<T>, limitMs = 20_000): Promise<{ value: T; ms: number }> => {
  const startedMs = clock.monotonicMs();
  let ended = false;
  const end = () => {
    ended = true;
  };
  work.then(end, end);
  await settle();
  while (!ended && clock.monotonicMs() - startedMs < limitMs) await pass(1, 1);
  if (!ended) throw new Error(`not done after ${limitMs} ms`);
  return { value: await work, ms: clock.monotonicMs() - startedMs };
};

const driven = async <T>(work: Promise<T>): Promise<T> => (await timed(work)).value;

const open = async (options: { readonly requestTimeout?: number } = {}): Promise<Client> => {
  const opened = await driven(
    connectOver(
      { openTransport: openFake(members, clock) },
      { endpoints: ['a', 'b', 'c'], clock, random: () => 0, ...options },
    ),
  );
  client = opened;
  return opened;
};

const [a, b, c] = [0, 1, 2].map((index) => () => {
  const member = members[index];
  if (member === undefined) throw new Error('no such member');
  return member;
}) as [() => FakeTransportMember, () => FakeTransportMember, () => FakeTransportMember];

/** Puts that the member received, whether it answered them or not. */
const puts = (member: FakeTransportMember) =>
  member.calls.filter(({ method }) => method === 'put').map(({ number }) => number?.sequence);

test('a member that hangs when connected to costs a moment; one that refuses, nothing', async () => {
  a().accepts = 'hangs';
  const { ms } = await timed(open());
  expect(ms).toBeLessThanOrEqual(201);
  expect(b().transports.size).toBe(1);
  await driven(client?.close() ?? Promise.resolve());
  expect(clock.timers).toBe(0);
  a().accepts = 'refuses';
  b().accepts = 'refuses';
  expect((await timed(open())).ms).toBe(0);
  expect(c().transports.size).toBe(1);
});

test('a slow member that connects in the end is not used beside the one that was faster', async () => {
  a().accepts = 'hangs';
  await open();
  await pass(3_000);
  expect(members.map(({ transports }) => transports.size)).toEqual([0, 1, 0]);
});

test('when the member dies, reads and numbered writes are repeated elsewhere at once', async () => {
  const { kv } = await open();
  await driven(kv.put('warm', ''));
  a().onCall = () => undefined;
  const calls = Promise.all([kv.put('k', ''), kv.get('k'), kv.delete('k')]);
  await settle();
  a().accepts = 'refuses';
  a().cut();
  const { ms } = await timed(calls);
  expect(ms).toBe(0);
  expect(puts(a())).toEqual([1n, 2n]);
  expect(puts(b())).toEqual([2n]);
});

test('a member without a leader is left at once, with everything that can be repeated', async () => {
  const { kv, cluster } = await open();
  await driven(kv.put('warm', ''));
  a().onCall = () => undefined;
  const stuck = kv.put('stuck', '');
  const stays = cluster.removeMember(3n);
  await settle();
  a().onCall = ({ fail }) => fail(Status.UNAVAILABLE, noLeader);
  const { ms } = await timed(Promise.all([kv.get('k'), stuck]));
  expect(ms).toBe(0);
  expect(puts(b())).toEqual([2n]);
  // What cannot be repeated may still be answered where it is.
  expect(a().transports.size).toBe(1);
  a()
    .calls.find(({ method }) => method === 'memberRemove')
    ?.answer({ header, members: [] });
  await stays;
  expect(a().transports.size).toBe(0);
});

test.each([
  'etcdserver: rpc not supported for learner',
  'etcdserver: server stopped',
  'etcdserver: request timed out, possibly due to previous leader failure',
])('another member is asked after "%s"', async (text) => {
  const { kv } = await open();
  a().onCall = ({ fail }) => fail(Status.UNAVAILABLE, text);
  expect((await timed(kv.get('k'))).ms).toBe(0);
  expect(b().calls).toHaveLength(1);
});

test('a member that is stopped, with its connections open, is left within two seconds', async () => {
  const { kv } = await open();
  await driven(kv.put('warm', ''));
  const watch = kv.watch('k');
  a().onCall = () => undefined;
  a().alive = false;
  const { ms } = await timed(Promise.all([kv.put('k', ''), kv.get('k')]));
  expect(ms).toBeGreaterThan(1_000);
  expect(ms).toBeLessThanOrEqual(2_005);
  expect(puts(b())).toEqual([2n]);
  expect(b().watchRequests).toHaveLength(1);
  await watch.cancel();
});

test('a watch alone is enough to notice that a member is stopped', async () => {
  const { kv } = await open();
  const watch = kv.watch('k', { from: 4n });
  await settle();
  expect(a().watchRequests).toHaveLength(1);
  a().alive = false;
  await pass(2_100);
  expect(b().watchRequests).toMatchObject([
    { requestUnion: { $case: 'createRequest', value: { startRevision: 4n } } },
  ]);
  await watch.cancel();
});

test('a watch leaves a member without a leader at once, and does not hurry when none has one', async () => {
  const { kv } = await open();
  a().refusesWatches = noLeader;
  const watch = kv.watch('k', { from: 4n });
  await settle();
  expect(members.map(({ watches }) => watches)).toEqual([1, 1, 0]);
  for (const member of members) member.refusesWatches = noLeader;
  b().cut();
  await pass(3_000);
  const watches = members.reduce((sum, member) => sum + member.watches, 0);
  expect(watches).toBeGreaterThan(8);
  expect(watches).toBeLessThan(60);
  for (const member of members) member.refusesWatches = undefined;
  await pass(760);
  expect(members.flatMap(({ watchRequests }) => watchRequests)).toHaveLength(2);
  await watch.cancel();
});

test('a member that takes long over much is not left while answers come', async () => {
  const { kv } = await open();
  a().onCall = () => undefined;
  a().alive = false;
  const reads = Array.from({ length: 8 }, () => kv.get('k'));
  await settle();
  for (const { answer } of a().calls) {
    await pass(1_000);
    answer({ header, kvs: [], count: 0n, more: false });
  }
  await Promise.all(reads);
  expect(b().dialledMs).toEqual([]);
});

test('a member that works for long is not left, and one nobody waits for is not asked', async () => {
  const { kv } = await open();
  await pass(5_000, 50);
  expect(a().pings).toBe(0);
  a().onCall = () => undefined;
  const slow = kv.get('k');
  await pass(9_000, 50);
  expect(a().pings).toBeGreaterThan(10);
  expect(b().dialledMs).toEqual([]);
  for (const { answer } of a().calls) answer({ header, kvs: [], count: 0n, more: false });
  await slow;
});

test('an outage is noticed to be over within a quarter of it', async () => {
  const { kv } = await open();
  await driven(kv.put('warm', ''));
  for (const outageMs of [60, 400, 3_000]) {
    for (const member of members) {
      member.onCall = ({ fail }) => fail(Status.UNAVAILABLE, noLeader);
    }
    const write = kv.put('k', '');
    write.catch(() => undefined);
    await pass(outageMs, 1);
    for (const member of members) serve(member);
    const { ms } = await timed(write);
    expect(ms).toBeLessThanOrEqual(Math.max(10, outageMs / 4) + 1);
  }
});

test('what fails again and again is not repeated in a hurry', async () => {
  const { kv } = await open({ requestTimeout: 5_000 });
  for (const member of members) member.onCall = ({ fail }) => fail(Status.UNAVAILABLE, noLeader);
  const read = kv.get('k');
  const failed = expect(read).rejects.toMatchObject({ code: 'UNREACHABLE' });
  await timed(read.catch(() => undefined));
  await failed;
  const attempts = members.reduce((sum, { calls }) => sum + calls.length, 0);
  expect(attempts).toBeGreaterThan(8);
  expect(attempts).toBeLessThan(60);
});

test('a write is not repeated once the server may have forgotten it', async () => {
  const { kv } = await open();
  await driven(kv.put('warm', ''));
  for (const member of members) {
    member.onCall = ({ fail }) => fail(Status.UNAVAILABLE, 'etcdserver: leader changed');
  }
  const write = kv.put('k', '', { timeout: '1h' });
  const failed = expect(write).rejects.toMatchObject({
    code: 'OUTCOME_UNKNOWN',
    outcome: 'unknown',
  });
  let endedMs = 0;
  write.catch(() => {
    endedMs = clock.monotonicMs();
  });
  const startedMs = clock.monotonicMs();
  await pass(memoryMs + 5_000, 500);
  await failed;
  expect(endedMs - startedMs).toBeGreaterThanOrEqual(memoryMs - 1_000);
  expect(endedMs - startedMs).toBeLessThan(memoryMs + 2_000);
});

test('when its time is over, a write that was lost before says so, whatever ended it', async () => {
  const { kv } = await open({ requestTimeout: 1_000 });
  await driven(kv.put('warm', ''));
  a().onCall = () => undefined;
  const controller = new AbortController();
  const late = kv.put('late', '');
  const given = kv.put('given', '', { signal: controller.signal });
  const outcomes = Promise.allSettled([late, given]);
  await settle();
  for (const member of members) member.accepts = 'refuses';
  a().cut();
  await pass(500);
  controller.abort();
  await pass(1_000);
  expect(await outcomes).toMatchObject([
    { reason: { code: 'OUTCOME_UNKNOWN', outcome: 'unknown' } },
    { reason: { code: 'ABORTED', outcome: 'unknown' } },
  ]);
});

test('a result of a repeated write is certain', async () => {
  const { kv } = await open();
  await driven(kv.put('warm', ''));
  a().onCall = () => undefined;
  const write = kv.put('k', '', { lease: 9n });
  const failed = expect(write).rejects.toMatchObject({
    code: 'LEASE_NOT_FOUND',
    outcome: 'not-applied',
  });
  await settle();
  b().onCall = ({ fail }) => fail(Status.NOT_FOUND, 'etcdserver: requested lease not found');
  a().accepts = 'refuses';
  a().cut();
  await timed(write.catch(() => undefined));
  await failed;
});

test('a session goes on at another member', async () => {
  const opened = await open();
  const session = await driven(opened.session({ ttl: '30s' }));
  a().onCall = ({ fail }) => fail(Status.UNAVAILABLE, noLeader);
  await pass(12_000, 50);
  expect(session.state).toBe('live');
  expect(b().calls.map(({ method }) => method)).toContain('leaseKeepAlive');
});

test('closing ends attempts to connect and leaves no timer', async () => {
  const opened = await open();
  const read = opened.kv.get('k');
  await driven(read);
  for (const member of members) member.accepts = 'hangs';
  a().cut();
  await settle();
  const waiting = opened.kv.get('k');
  const closed = expect(waiting).rejects.toMatchObject({ code: 'CLOSED' });
  await driven(opened.close());
  await closed;
  expect(clock.timers).toBe(0);
});
