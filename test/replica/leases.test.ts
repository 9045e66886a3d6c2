/** Who may end a lease, and when, over three members. */
import { expect, test } from 'vitest';
import { openCommand } from '../../server/envelope.ts';
import { grant, put } from '../machine/requests.ts';
import { Cluster, ELECTION_MS, TICK_MS } from './cluster.ts';

const ELECTION_TICKS = ELECTION_MS / TICK_MS;
const TTL_SECONDS = 10;
const TTL_MS = TTL_SECONDS * 1000;

function leased(): Cluster {
  const cluster = new Cluster(3);
  cluster.elect(1n);
  cluster.propose(2n, grant(1n, TTL_SECONDS));
  cluster.propose(2n, put('a', '', { lease: 1n }));
  cluster.settle();
  return cluster;
}

const has = (cluster: Cluster, id: bigint) => cluster.member(id).machine.leases.has(1n);

/** The ends of leases that a member has in its log, with the terms of entry and proposal. */
const expiries = (cluster: Cluster, id: bigint) =>
  cluster.member(id).disk.entries.flatMap(({ kind, term, data }) => {
    if (kind !== 'command') return [];
    const { command } = openCommand(data);
    return command.kind === 'lease-expire' ? [{ entry: term, proposal: command.term }] : [];
  });

test('a lease ends on every member, by one entry of the leader', () => {
  const cluster = leased();
  cluster.pause(TTL_MS);
  cluster.tick(3);
  for (const id of cluster.members.keys()) {
    expect(has(cluster, id)).toBe(false);
    expect(cluster.member(id).machine.revision).toBe(3);
  }
  expect(expiries(cluster, 1n)).toHaveLength(1);
});

test('a follower ends no lease, whatever its clock says', () => {
  const cluster = leased();
  cluster.pause(10 * TTL_MS);
  for (const id of [2n, 3n]) cluster.tickOnly(id);
  expect(cluster.network.filter(({ kind }) => kind === 'propose')).toEqual([]);
  cluster.settle();
  for (const id of [1n, 2n, 3n]) expect(has(cluster, id)).toBe(true);
  expect(expiries(cluster, 3n)).toEqual([]);
});

test('a leader of the past ends no lease', () => {
  const cluster = leased();
  cluster.isolate(1n);
  cluster.pause(TTL_MS);
  // It still takes itself for the leader, and proposes.
  cluster.tickOnly(1n);
  expect(expiries(cluster, 1n)).toHaveLength(1);
  cluster.tick(1);
  cluster.elect(2n);
  cluster.heal();
  cluster.tick(3);
  for (const id of [1n, 2n, 3n]) expect(has(cluster, id)).toBe(true);
  expect(expiries(cluster, 1n)).toEqual([]);
});

test('an end that was proposed in an earlier term has no effect when it is committed later', () => {
  const cluster = leased();
  cluster.propose(1n, { kind: 'lease-expire', id: 1n, term: 1 });
  cluster.settle();
  for (const id of [1n, 2n, 3n]) expect(has(cluster, id)).toBe(true);
});

test('a new leader gives every lease its full time, and never tells more than was granted', () => {
  const cluster = leased();
  cluster.pause(TTL_MS - 2 * ELECTION_MS);
  cluster.crash(1n);
  cluster.tick(ELECTION_TICKS);
  cluster.elect(2n);
  const { leases } = cluster.member(2n).machine;
  expect(leases.info(1n, cluster.nowMs)).toEqual({
    id: 1n,
    ttlSeconds: TTL_SECONDS,
    remainingMs: TTL_MS,
  });
  cluster.tick(TTL_SECONDS * 10 - 1);
  expect(has(cluster, 2n)).toBe(true);
  cluster.tick(2 * ELECTION_TICKS);
  expect(has(cluster, 2n)).toBe(false);
  expect(has(cluster, 3n)).toBe(false);
});

test('a leader ends nothing before it has applied an entry of its own term', () => {
  const cluster = leased();
  cluster.crash(1n);
  cluster.tick(ELECTION_TICKS);
  cluster.pause(TTL_MS);
  cluster.cut(3n, 2n);
  while (!cluster.member(2n).up.isLeader && !cluster.member(3n).up.isLeader) {
    cluster.heal();
    cluster.tick(1);
  }
  const leader = cluster.member(2n).up.isLeader ? 2n : 3n;
  expect(has(cluster, leader)).toBe(true);
  expect(expiries(cluster, leader)).toEqual([]);
});

test('the leader of a member that was paused gives holders time to renew', () => {
  const cluster = leased();
  cluster.tick(1);
  cluster.pause(TTL_MS);
  cluster.tick(1);
  expect(has(cluster, 1n)).toBe(true);
});

test('leases are known again after a snapshot, with their full time', () => {
  const cluster = leased();
  cluster.isolate(3n);
  cluster.propose(1n, grant(2n, TTL_SECONDS));
  cluster.settle();
  cluster.release(1n);
  cluster.heal();
  cluster.tick(3);
  expect(cluster.member(3n).installed).toBe(1);
  expect(cluster.member(3n).machine.leases.size).toBe(2);
  cluster.crash(1n);
  cluster.tick(ELECTION_TICKS);
  cluster.elect(3n);
  cluster.tick(TTL_SECONDS * 10 + ELECTION_TICKS + 1);
  expect(cluster.member(3n).machine.leases.size).toBe(0);
});
