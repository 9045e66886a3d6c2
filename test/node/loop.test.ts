/** One member's loop on virtual time, over stores in memory whose writes take as long as they are told. */
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { assemble } from '../../server/assembly.ts';
import { systemRandom } from '../../server/clock.ts';
import type { Founder } from '../../server/membership.ts';
import { openStores } from '../../server/stores.ts';
import { SLICE_MS } from '../../server/time-slice.ts';
import { get, put } from '../machine/requests.ts';
import { CountByTurn } from '../support/turns.ts';
import { VirtualTime } from '../support/virtual-time.ts';

async function member(founders: readonly Founder[]) {
  const time = new VirtualTime();
  const identity = { name: 'a', clusterId: 1n, memberId: 2n };
  const stores = await openStores(undefined, identity, () => {});
  let gate: Promise<void> = Promise.resolve();
  const append = stores.log.append.bind(stores.log);
  const mayBlock: (boolean | undefined)[] = [];
  stores.log.append = async (batch, blocks) => {
    mayBlock.push(blocks);
    await gate;
    await append(batch);
  };
  const failures: Error[] = [];
  const expulsions: string[] = [];
  const parts = await assemble({
    options: { heartbeatIntervalMs: 100, electionTimeoutMs: 1_000 },
    arrival: {
      kind: 'found',
      identity,
      founders,
      known: undefined,
    },
    stores,
    logger: pino({ level: 'silent' }),
    requestTimeoutMs: 7_000,
    environment: { clock: time, timers: time, random: systemRandom },
    onFatal: (error) => failures.push(error),
    onExpelled: (reason) => expulsions.push(reason),
  });
  parts.node.start();
  parts.campaign();
  await time.pass(10);
  /** Writes wait from now on; the function returned lets them go. */
  const hold = (): (() => void) => {
    let open = () => {};
    gate = new Promise((resolve) => {
      open = resolve;
    });
    return open;
  };
  return { ...parts, stores, time, hold, mayBlock, failures, expulsions };
}

async function leader() {
  const alone = await member([{ id: 2n, name: 'a', peerUrls: [] }]);
  expect(alone.member.isLeader).toBe(true);
  return alone;
}

test('a member founded alone leads at once, without waiting for an election timeout', async () => {
  const { member } = await leader();
  expect(member.members.map(({ name }) => name)).toEqual(['a']);
});

test('a member alone may block for a write, unless it can apply another one meanwhile', async () => {
  const { member, time, hold, mayBlock } = await leader();
  mayBlock.length = 0;
  await Promise.all([member.propose(put('a')), time.pass(10)]);
  expect(mayBlock).toEqual([true]);
  const open = hold();
  const first = member.propose(put('b'));
  await time.pass(10);
  const second = member.propose(put('c'));
  await time.pass(10);
  open();
  await Promise.all([first, second, time.pass(10)]);
  expect(mayBlock).toEqual([true, true, false]);
});

test('entries that take long to apply are applied in several turns, in their order', async () => {
  const { member, stores, time } = await leader();
  const applies = new CountByTurn(queueMicrotask);
  const apply = stores.state.apply.bind(stores.state);
  stores.state.apply = (...applied) => {
    apply(...applied);
    applies.count();
    time.spend(SLICE_MS / 2);
  };
  const written = ['a', 'b', 'c', 'd', 'e'].map((key) => member.propose(put(key)));
  await time.pass(100);
  const revisions = (await Promise.all(written)).map(({ revision }) => revision);
  expect(revisions).toEqual([2, 3, 4, 5, 6]);
  expect(applies.counts).toEqual([2, 2, 1]);
});

test('a transaction that only reads, and much, is read in several turns', async () => {
  const { member, stores, time } = await leader();
  const puts = Array.from({ length: 100 }, (_, key) => put(`k${key}`));
  for (let batch = 0; batch < 20; batch += 1) {
    const success = puts.map((one) => ({ ...one, key: Buffer.from(`${one.key}/${batch}`) }));
    void member.propose({ kind: 'txn', compare: [], success, failure: [] });
  }
  await time.pass(100);
  expect(member.revision).toBe(21);
  const scans = new CountByTurn(queueMicrotask);
  const scan = stores.state.scan.bind(stores.state);
  stores.state.scan = (...span) => {
    scans.count();
    time.spend(SLICE_MS / 2);
    return scan(...span);
  };
  const read = member.readTxn(
    { kind: 'txn', compare: [], success: [get('k', 'l')], failure: [] },
    { serializable: true },
  );
  await time.pass(1_000);
  const [range] = (await read).responses;
  expect(range).toMatchObject({ kind: 'range', count: 2_000, revision: 21 });
  expect(scans.counts.length).toBeGreaterThan(1);
  expect(Math.max(...scans.counts)).toBeLessThanOrEqual(2);
});

test('a leader whose log takes longer than an election steps down, and leads again when it can', async () => {
  const { member, time, hold } = await leader();
  const open = hold();
  const written = member.propose(put('k'));
  await time.pass(1_000);
  expect(member.isLeader).toBe(true);
  await time.pass(200);
  expect(member.isLeader).toBe(false);
  open();
  await time.pass(5_000);
  expect(member.isLeader).toBe(true);
  await expect(written).resolves.toMatchObject({ kind: 'put' });
});

test('a read while nobody leads waits for one election, then says so', async () => {
  const { member, time, hold } = await leader();
  const open = hold();
  void member.propose(put('k')).catch(() => {});
  await time.pass(1_200);
  const refused = expect(member.linearize()).rejects.toMatchObject({ code: 'no-leader' });
  await time.pass(1_100);
  await refused;
  const served = member.linearize();
  open();
  await time.pass(5_000);
  await served;
});

test('after a storage error everybody is told, once, and nothing is taken any more', async () => {
  const { member, stores, time, failures } = await leader();
  stores.log.append = () => Promise.reject(new Error('EIO'));
  const refused = expect(member.propose(put('k'))).rejects.toMatchObject({ code: 'stopped' });
  const waiting = expect(member.linearize()).resolves.toBeUndefined();
  await time.pass(10);
  await refused;
  await waiting;
  await expect(member.propose(put('k'))).rejects.toMatchObject({ code: 'stopped' });
  await expect(member.linearize()).rejects.toMatchObject({ code: 'stopped' });
  await time.pass(5_000);
  expect(failures.map(({ message }) => message)).toEqual(['EIO']);
});

test('a member whose log lost what it had confirmed ends, and says what to do', async () => {
  const founders = [2n, 3n, 4n].map((id) => ({ id, name: `m${id}`, peerUrls: [`http://${id}`] }));
  const { node, member: follower, time, expulsions, failures } = await member(founders);
  const heartbeat = { kind: 'heartbeat', from: 3n, to: 2n, term: 2, context: 0 } as const;
  node.receive({ ...heartbeat, commit: 1 });
  await time.pass(10);
  expect(follower.leader).toBe(3n);
  expect(expulsions).toEqual([]);
  node.receive({ ...heartbeat, commit: 50 });
  await time.pass(10);
  expect(expulsions).toEqual([
    expect.stringMatching(/entry 50 .*conclave member replace 2 NAME --peer-urls URL$/),
  ]);
  expect(failures).toEqual([]);
  await expect(follower.propose(put('k'))).rejects.toMatchObject({ code: 'stopped' });
});
