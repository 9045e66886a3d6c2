import { expect, test } from 'vitest';
import type { MembershipCommand } from '../../server/membership.ts';
import { put } from '../machine/requests.ts';
import { Cluster, ELECTION_MS, TICK_MS } from './cluster.ts';

const ELECTION_TICKS = ELECTION_MS / TICK_MS;

const add = (id: bigint, isLearner: boolean): MembershipCommand => ({
  kind: 'member-add',
  id,
  peerUrls: [`http://m${id}`],
  isLearner,
});

function led(size = 3): Cluster {
  const cluster = new Cluster(size);
  cluster.elect(1n);
  return cluster;
}

/** A change on the leader, with its fault if it has one. */
function changed(cluster: Cluster, command: MembershipCommand, at = 1n): string | undefined {
  const request = cluster.change(at, command);
  cluster.settle();
  cluster.tick();
  return cluster.member(at).fault(request);
}

const voters = (cluster: Cluster, id: bigint) => cluster.member(id).machine.configuration.voters;

/** What Raft counts with is what the state machine says. */
function expectAgreement(cluster: Cluster): void {
  cluster.tick(3);
  const sums = new Set<number>();
  for (const member of cluster.members.values()) {
    if (member.replica === undefined) continue;
    expect(member.raft?.configuration).toEqual(member.machine.configuration);
    sums.add(member.checksum());
  }
  expect(sums.size).toBe(1);
}

test('a learner joins, follows, is promoted, and votes', () => {
  const cluster = led();
  const joiner = cluster.join(4n);
  expect(changed(cluster, add(4n, true))).toBe('none');
  cluster.propose(1n, put('a'));
  cluster.tick(3);
  expect(joiner.machine.revision).toBe(2);
  expect(joiner.raft?.configuration).toMatchObject({ voters: [1n, 2n, 3n], learners: [4n] });
  expect(changed(cluster, { kind: 'member-promote', id: 4n })).toBe('none');
  expect(voters(cluster, 4n)).toEqual([1n, 2n, 3n, 4n]);
  expectAgreement(cluster);
  // Three of four: the newcomer's vote is needed.
  cluster.crash(3n);
  const request = cluster.propose(1n, put('b'));
  cluster.settle();
  expect(cluster.member(1n).fault(request)).toBe('none');
});

test('a change is announced once, by every member that applied it', () => {
  const cluster = led();
  const before = [...cluster.members.values()].map((member) => member.configurations.length);
  changed(cluster, add(4n, true));
  for (const [at, member] of [...cluster.members.values()].entries()) {
    expect(member.configurations.length).toBe((before[at] ?? 0) + 1);
    expect(member.configurations.at(-1)).toEqual(member.machine.configuration);
  }
  const changes = cluster.member(2n).membersChanged;
  cluster.propose(1n, { kind: 'member-update', memberId: 2n, peerUrls: ['http://moved'] });
  cluster.settle();
  cluster.tick();
  expect(cluster.member(2n).membersChanged).toBe(changes + 1);
  expect(cluster.member(2n).configurations.at(-1)).toMatchObject({ learners: [4n] });
});

test('a refused change is told to Raft, and the next one may come', () => {
  const cluster = led();
  expect(changed(cluster, add(2n, false))).toBe('member-exist');
  expect(changed(cluster, { kind: 'member-remove', id: 9n })).toBe('member-not-found');
  expect(changed(cluster, { kind: 'member-promote', id: 2n })).toBe('member-not-learner');
  expect(changed(cluster, add(4n, true))).toBe('none');
  expectAgreement(cluster);
});

test('there is one change at a time', () => {
  const cluster = led();
  const first = cluster.change(1n, add(4n, true));
  const second = cluster.change(1n, { kind: 'member-remove', id: 2n });
  expect(cluster.member(1n).fault(second)).toBe('change-pending');
  cluster.settle();
  expect(cluster.member(1n).fault(first)).toBe('none');
});

test('only the leader takes a change', () => {
  const cluster = led();
  const onFollower = cluster.change(2n, add(4n, true));
  expect(cluster.member(2n).fault(onFollower)).toBe('not-leader');
  const leaderless = new Cluster(3);
  const early = leaderless.change(2n, add(4n, true));
  leaderless.elect(2n);
  leaderless.settle();
  leaderless.tick();
  expect(leaderless.member(2n).fault(early)).toBe('none');
});

test('a removed follower is gone for the others', () => {
  const cluster = led();
  expect(changed(cluster, { kind: 'member-remove', id: 3n })).toBe('none');
  expect(voters(cluster, 1n)).toEqual([1n, 2n]);
  expect(cluster.member(1n).machine.removed).toEqual([3n]);
  cluster.crash(3n);
  const request = cluster.propose(2n, put('a'));
  cluster.settle();
  expect(cluster.member(2n).fault(request)).toBe('none');
});

test('a leader removes itself and hands over', () => {
  const cluster = led();
  const request = cluster.change(1n, { kind: 'member-remove', id: 1n });
  cluster.settle();
  cluster.tick(2 * ELECTION_TICKS);
  expect(cluster.member(1n).fault(request)).toBe('none');
  expect(cluster.member(1n).up.isLeader).toBe(false);
  const leaders = [2n, 3n].filter((id) => cluster.member(id).up.isServingLeader);
  expect(leaders).toHaveLength(1);
});

test('a member is replaced in one joint change', () => {
  const cluster = led();
  cluster.join(4n);
  changed(cluster, add(4n, true));
  cluster.tick(3);
  expect(changed(cluster, { kind: 'member-replace', learner: 4n, old: 3n })).toBe('none');
  cluster.tick(2);
  for (const id of [1n, 2n, 4n]) {
    expect(cluster.member(id).machine.configuration).toMatchObject({
      voters: [1n, 2n, 4n],
      outgoing: [],
    });
    expect(cluster.member(id).machine.removed).toEqual([3n]);
  }
  cluster.crash(3n);
  expectAgreement(cluster);
  const joints = cluster.member(2n).configurations.filter(({ outgoing }) => outgoing.length > 0);
  expect(joints).toHaveLength(1);
});

test('a joint change begun under one leader is ended under the next', () => {
  const cluster = led();
  cluster.join(4n);
  changed(cluster, add(4n, true));
  cluster.tick(3);
  const request = cluster.change(1n, { kind: 'member-replace', learner: 4n, old: 3n });
  // Applied on the leader, but it gets no further than proposing to leave.
  while (cluster.member(1n).fault(request) === undefined) cluster.step();
  expect(cluster.member(1n).machine.configuration.outgoing).toEqual([1n, 2n, 3n]);
  cluster.crash(1n);
  cluster.tick(ELECTION_TICKS);
  cluster.elect(2n);
  cluster.tick(3);
  expect(cluster.member(2n).machine.configuration).toMatchObject({
    voters: [1n, 2n, 4n],
    outgoing: [],
  });
});

test('members are the same after every member started again', () => {
  const cluster = led();
  changed(cluster, { kind: 'member-remove', id: 3n });
  cluster.crash(3n);
  for (const id of [1n, 2n]) cluster.restart(id);
  for (const id of [1n, 2n]) {
    expect(cluster.member(id).raft?.configuration.voters).toEqual([1n, 2n]);
  }
  cluster.elect(2n);
  cluster.members.delete(3n);
  expectAgreement(cluster);
});

test('one member grows to three', () => {
  const cluster = led(1);
  for (const id of [2n, 3n]) {
    cluster.join(id);
    expect(changed(cluster, add(id, true))).toBe('none');
    cluster.tick(3);
    expect(changed(cluster, { kind: 'member-promote', id })).toBe('none');
  }
  expectAgreement(cluster);
  expect(voters(cluster, 3n)).toEqual([1n, 2n, 3n]);
});
