import { expect, test } from 'vitest';
import { grant, put } from '../machine/requests.ts';
import { Cluster, ELECTION_MS, TICK_MS } from './cluster.ts';

const ELECTION_TICKS = ELECTION_MS / TICK_MS;

function led(): Cluster {
  const cluster = new Cluster(3);
  cluster.elect(1n);
  return cluster;
}

const revisions = (cluster: Cluster) =>
  [...cluster.members.values()].map(({ machine }) => machine.revision);

test('members that are founded alike are alike', () => {
  const cluster = led();
  const [one, ...others] = [...cluster.members.values()];
  for (const { disk } of others) expect(disk.state.dump()).toEqual(one?.disk.state.dump());
  expect(one?.machine.members.map(({ id }) => id)).toEqual([1n, 2n, 3n]);
  expect(one?.raft?.configuration).toEqual(one?.machine.configuration);
});

test('a proposal on a follower is answered there', () => {
  const cluster = led();
  const request = cluster.propose(2n, put('a'));
  expect(cluster.member(2n).result(request)).toBeUndefined();
  cluster.settle();
  expect(cluster.member(2n).result(request)).toMatchObject({ kind: 'put', revision: 2 });
  expect(cluster.member(1n).outcomes.size).toBe(0);
  expect(revisions(cluster)).toEqual([2, 2, 2]);
});

test('answers find their requests, however many members propose at once', () => {
  const cluster = led();
  const requests = [1n, 2n, 3n, 2n, 3n, 1n].map((at, n) => ({
    at,
    id: cluster.propose(at, grant(BigInt(n + 1))),
    lease: BigInt(n + 1),
  }));
  cluster.settle();
  for (const { at, id, lease } of requests) {
    expect(cluster.member(at).result(id)).toMatchObject({ kind: 'lease-grant', id: lease });
  }
});

test('a member that starts again does not take old entries for its own', () => {
  const cluster = led();
  // Of its former life there are entries that it has not seen: with the numbers it now gives again.
  for (let lease = 1n; lease <= 9n; lease += 1n) cluster.propose(2n, grant(lease));
  cluster.cut(1n, 2n);
  cluster.settle();
  expect(cluster.member(1n).machine.leases.size).toBe(9);
  cluster.restart(2n);
  const requests = [21n, 22n, 23n].map((lease) => ({
    lease,
    id: cluster.propose(2n, grant(lease)),
  }));
  cluster.heal();
  cluster.tick(3);
  for (const { lease, id } of requests) {
    expect(cluster.member(2n).result(id)).toMatchObject({ kind: 'lease-grant', id: lease });
  }
  expect(cluster.member(2n).machine.leases.size).toBe(12);
});

test('a forwarded proposal that is lost fails for certain once there is a new leader', () => {
  const cluster = led();
  cluster.cut(2n, 1n);
  const request = cluster.propose(2n, put('lost'));
  cluster.settle();
  cluster.tick();
  expect(cluster.member(2n).outcomes.size).toBe(0);
  cluster.crash(1n);
  cluster.heal();
  cluster.elect(3n);
  expect(cluster.member(2n).fault(request)).toBe('leader-changed');
  cluster.start(1n);
  cluster.tick(3);
  expect(revisions(cluster)).toEqual([1, 1, 1]);
});

test('what a dead leader never took goes to the next one, and nobody sees more than a pause', () => {
  const cluster = led();
  cluster.cut(2n, 1n);
  const request = cluster.propose(2n, put('a'));
  cluster.settle();
  cluster.crash(1n);
  cluster.heal();
  for (const id of [2n, 3n]) cluster.unreachable(id, 1n);
  cluster.settle();
  expect(cluster.member(2n).result(request)).toMatchObject({ kind: 'put', revision: 2 });
  expect(cluster.member(3n).machine.revision).toBe(2);
});

test('a proposal cut off the log of a former leader fails for certain', () => {
  const cluster = led();
  cluster.isolate(1n);
  const request = cluster.propose(1n, put('lost'));
  cluster.elect(2n);
  expect(cluster.member(1n).outcomes.size).toBe(0);
  cluster.heal();
  cluster.tick(3);
  expect(cluster.member(1n).fault(request)).toBe('leader-changed');
  expect(revisions(cluster)).toEqual([1, 1, 1]);
});

test('a proposal that survives a change of leader is answered with its result', () => {
  const cluster = led();
  cluster.cut(3n, 1n);
  cluster.cut(2n, 1n);
  const request = cluster.propose(1n, put('kept'));
  cluster.settle();
  expect(cluster.member(1n).outcomes.size).toBe(0);
  cluster.isolate(1n);
  cluster.elect(3n);
  cluster.heal();
  cluster.tick(3);
  expect(cluster.member(1n).result(request)).toMatchObject({ kind: 'put', revision: 2 });
  expect(revisions(cluster)).toEqual([2, 2, 2]);
});

test('what is refused during a transfer is proposed again when it is given up', () => {
  const cluster = led();
  cluster.isolate(3n);
  cluster.transfer(1n, 3n);
  const own = cluster.propose(1n, put('own'));
  const forwarded = cluster.propose(2n, put('forwarded'));
  cluster.settle();
  expect(cluster.member(1n).outcomes.size + cluster.member(2n).outcomes.size).toBe(0);
  cluster.tick(ELECTION_TICKS + 1);
  expect(cluster.member(1n).result(own)).toMatchObject({ kind: 'put' });
  expect(cluster.member(2n).result(forwarded)).toMatchObject({ kind: 'put' });
  expect(cluster.member(1n).machine.revision).toBe(3);
});

test('what is refused during a transfer goes to the new leader', () => {
  const cluster = led();
  const transfer = cluster.transfer(1n, 3n);
  const own = cluster.propose(1n, put('own'));
  const forwarded = cluster.propose(2n, put('forwarded'));
  cluster.settle();
  expect(cluster.member(3n).up.isLeader).toBe(true);
  expect(cluster.member(1n).transferred).toEqual(new Set([transfer]));
  expect(cluster.member(1n).result(own)).toMatchObject({ kind: 'put' });
  expect(cluster.member(2n).result(forwarded)).toMatchObject({ kind: 'put' });
  expect(revisions(cluster)).toEqual([3, 3, 3]);
});

test('a proposal without a leader waits for one, but not for ever', () => {
  const cluster = new Cluster(3);
  const early = cluster.propose(2n, put('early'));
  cluster.elect(1n);
  expect(cluster.member(2n).result(early)).toMatchObject({ kind: 'put', revision: 2 });

  const alone = new Cluster(3);
  alone.isolate(2n);
  const hopeless = alone.propose(2n, put('hopeless'));
  alone.tick(ELECTION_TICKS - 1);
  expect(alone.member(2n).outcomes.size).toBe(0);
  alone.tick(1);
  expect(alone.member(2n).fault(hopeless)).toBe('no-leader');
});

test('in flight when the leader is lost: the outcome is open, and said so in time', () => {
  const cluster = led();
  cluster.isolate(2n);
  const request = cluster.propose(2n, put('open'));
  cluster.tick(2 * ELECTION_TICKS);
  expect(cluster.member(2n).outcomes.size).toBe(0);
  cluster.tick(ELECTION_TICKS + 1);
  expect(cluster.member(2n).fault(request)).toBe('timeout-due-to-leader-fail');
});

test('a request that is not answered in time has timed out', () => {
  const cluster = led();
  cluster.cut(2n, 1n);
  const request = cluster.propose(2n, put('lost'));
  cluster.tick(69);
  expect(cluster.member(2n).outcomes.size).toBe(0);
  cluster.tick(1);
  expect(cluster.member(2n).fault(request)).toBe('timeout');
});

test('an overloaded leader refuses what is forwarded to it', () => {
  const cluster = new Cluster(3, { uncommittedBytes: 100 });
  cluster.elect(1n);
  const first = cluster.propose(1n, put('a', 'x'.repeat(200)));
  const own = cluster.propose(1n, put('b', 'x'.repeat(200)));
  expect(cluster.member(1n).fault(own)).toBe('too-many-requests');
  const forwarded = cluster.propose(2n, put('c', 'x'.repeat(200)));
  // It arrives while nothing is committed yet.
  cluster.network.sort((a, b) => Number(b.kind === 'propose') - Number(a.kind === 'propose'));
  cluster.settle();
  expect(cluster.member(2n).fault(forwarded)).toBe('too-many-requests');
  expect(cluster.member(1n).result(first)).toMatchObject({ revision: 2 });
  expect(revisions(cluster)).toEqual([2, 2, 2]);
});

test('a doubled message takes effect once', () => {
  const cluster = led();
  const request = cluster.propose(2n, put('a'));
  const [message] = cluster.network;
  expect(message?.kind).toBe('propose');
  if (message !== undefined) cluster.network.push(message, message);
  cluster.settle();
  expect(cluster.member(2n).result(request)).toMatchObject({ revision: 2 });
  expect(revisions(cluster)).toEqual([2, 2, 2]);
});

test('a linearizable read on a follower sees what was acknowledged before', () => {
  const cluster = led();
  cluster.propose(1n, put('a'));
  cluster.settle();
  const read = cluster.read(3n);
  expect(cluster.member(3n).readable.has(read)).toBe(false);
  cluster.settle();
  expect(cluster.member(3n).readable.has(read)).toBe(true);
  expect(cluster.member(3n).machine.revision).toBe(2);
});

test('a read waits until everything that it must see is applied', () => {
  const cluster = led();
  const follower = cluster.member(3n);
  follower.mayApply = false;
  cluster.propose(1n, put('a'));
  cluster.settle();
  const read = cluster.read(3n);
  cluster.settle();
  expect(follower.readable.has(read)).toBe(false);
  follower.mayApply = true;
  cluster.tick();
  expect(follower.readable.has(read)).toBe(true);
  expect(follower.machine.revision).toBe(2);
});

test('a member whose disk is slow hands leadership over', () => {
  const cluster = led();
  cluster.storageSlow(1n);
  cluster.settle();
  cluster.tick(3 * ELECTION_TICKS);
  expect(cluster.member(1n).up.leader).not.toBe(0n);
  const request = cluster.propose(1n, put('a'));
  cluster.settle();
  expect(cluster.member(1n).result(request)).toMatchObject({ kind: 'put' });
});

test('a broken connection to the leader leads to a new one without any tick', () => {
  const cluster = led();
  cluster.crash(1n);
  cluster.unreachable(2n, 1n);
  cluster.unreachable(3n, 1n);
  cluster.settle();
  const leaders = [2n, 3n].filter((id) => cluster.member(id).up.isLeader);
  expect(leaders).toHaveLength(1);
});

test('transfers that cannot be are refused', () => {
  const cluster = led();
  const toNobody = cluster.transfer(1n, 9n);
  const onFollower = cluster.transfer(2n, 3n);
  const toItself = cluster.transfer(1n, 1n);
  expect(cluster.member(1n).fault(toNobody)).toBe('bad-leader-transferee');
  expect(cluster.member(2n).fault(onFollower)).toBe('not-leader');
  expect(cluster.member(1n).transferred.has(toItself)).toBe(true);
  cluster.isolate(3n);
  const toUnreachable = cluster.transfer(1n, 3n);
  cluster.tick(ELECTION_TICKS + 1);
  expect(cluster.member(1n).fault(toUnreachable)).toBe('timeout');
});
