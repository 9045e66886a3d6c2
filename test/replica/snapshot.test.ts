import { expect, test } from 'vitest';
import { grant, put } from '../machine/requests.ts';
import { Cluster, ELECTION_MS, TICK_MS } from './cluster.ts';

const ELECTION_TICKS = ELECTION_MS / TICK_MS;

/** Member 3 lacks entries that the leader, member 1, has released. */
function behind(): Cluster {
  const cluster = new Cluster(3);
  cluster.elect(1n);
  cluster.isolate(3n);
  for (const key of ['a', 'b', 'c']) cluster.propose(1n, put(key));
  cluster.propose(1n, grant(1n, 60));
  cluster.settle();
  cluster.release(1n);
  return cluster;
}

function expectAgreement(cluster: Cluster): void {
  cluster.tick(3);
  const sums = [...cluster.members.values()].map((member) => member.checksum());
  expect(new Set(sums).size).toBe(1);
}

test('a member that lags gets the state and goes on from there', () => {
  const cluster = behind();
  cluster.heal();
  cluster.tick(2);
  const lagging = cluster.member(3n);
  expect(lagging.installed).toBe(1);
  expect(lagging.machine.revision).toBe(4);
  expect(lagging.published).toEqual([]);
  cluster.propose(3n, put('d'));
  cluster.settle();
  expect(lagging.published).toEqual([5]);
  expectAgreement(cluster);
});

test('members, leases and everything else come with the state', () => {
  const cluster = behind();
  cluster.change(1n, { kind: 'member-add', id: 4n, peerUrls: ['http://m4'], isLearner: true });
  cluster.settle();
  cluster.release(1n);
  cluster.heal();
  cluster.tick(3);
  const { machine, raft } = cluster.member(3n);
  expect(machine.configuration.learners).toEqual([4n]);
  expect(raft?.configuration).toEqual(machine.configuration);
  expect(cluster.member(3n).configurations.at(-1)).toEqual(machine.configuration);
  expect(machine.leases.info(1n, cluster.nowMs)?.remainingMs).toBeGreaterThan(59_000);
  expectAgreement(cluster);
});

test('a newcomer gets everything by a snapshot', () => {
  const cluster = behind();
  cluster.heal();
  cluster.tick(3);
  cluster.join(4n);
  cluster.release(1n);
  cluster.change(1n, { kind: 'member-add', id: 4n, peerUrls: ['http://m4'], isLearner: true });
  cluster.tick(4);
  expect(cluster.member(4n).installed).toBe(1);
  expect(cluster.member(4n).machine.members).toHaveLength(4);
  expectAgreement(cluster);
});

test('entries that wait to be applied are not applied on top of the state', () => {
  const cluster = new Cluster(3);
  cluster.elect(1n);
  const lagging = cluster.member(3n);
  // Committed there and known to be, but its state is too far ahead of its disk.
  lagging.mayApply = false;
  for (const key of ['a', 'b', 'c']) cluster.propose(1n, put(key));
  cluster.tick(2);
  expect(lagging.up.commitIndex).toBe(cluster.member(1n).up.commitIndex);
  expect(lagging.machine.revision).toBe(1);
  cluster.isolate(3n);
  for (const key of ['a', 'd']) cluster.propose(1n, put(key));
  cluster.settle();
  cluster.release(1n);
  cluster.heal();
  cluster.tick(3);
  expect(lagging.installed).toBe(1);
  lagging.mayApply = true;
  cluster.propose(1n, put('e'));
  cluster.settle();
  expect(lagging.published).toEqual([7]);
  expectAgreement(cluster);
});

test('requests whose entries the state may hold end with an open outcome', () => {
  const cluster = new Cluster(3);
  cluster.elect(1n);
  const request = cluster.propose(3n, put('a'));
  // Its entry is made, and comes back with the state only.
  const [message] = cluster.network;
  expect(message?.kind).toBe('propose');
  cluster.step();
  cluster.cut(1n, 3n);
  cluster.settle();
  expect(cluster.member(1n).machine.revision).toBe(2);
  cluster.release(1n);
  cluster.heal();
  cluster.tick(2);
  expect(cluster.member(3n).installed).toBe(1);
  expect(cluster.member(3n).fault(request)).toBe('timeout');
  expectAgreement(cluster);
});

test('a read that waits while the state comes sees that state', () => {
  const cluster = behind();
  cluster.heal();
  cluster.tick(1);
  const read = cluster.read(3n);
  cluster.settle();
  cluster.tick(2);
  expect(cluster.member(3n).readable.has(read)).toBe(true);
  expect(cluster.member(3n).machine.revision).toBe(4);
});

test('a state that does not arrive is sent again', () => {
  const cluster = behind();
  cluster.heal();
  cluster.blockStates = true;
  cluster.tick(3);
  expect(cluster.member(3n).installed).toBe(0);
  cluster.blockStates = false;
  cluster.tick(3);
  expect(cluster.member(3n).installed).toBe(1);
  expectAgreement(cluster);
});

test('a member that installed a state starts from it again', () => {
  const cluster = behind();
  cluster.heal();
  cluster.tick(3);
  cluster.restart(3n);
  cluster.propose(1n, put('d'));
  cluster.tick(3);
  expect(cluster.member(3n).installed).toBe(1);
  expectAgreement(cluster);
  cluster.crash(1n);
  cluster.tick(ELECTION_TICKS);
  cluster.elect(3n);
  cluster.start(1n);
  expectAgreement(cluster);
});

test('a snapshot whose configuration is not that of its state stops the member', () => {
  const cluster = behind();
  cluster.heal();
  cluster.wrongConfiguration = true;
  expect(() => cluster.tick(3)).toThrow('comes with the configuration that its state holds');
});
