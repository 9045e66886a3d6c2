/** Calls that count once, through whatever may happen between two attempts. */
import { expect, test } from 'vitest';
import type { ClientCall } from '../../server/clients/call.ts';
import { limits } from '../../server/limits.ts';
import { put } from '../machine/requests.ts';
import { Cluster, ELECTION_MS, TICK_MS } from './cluster.ts';

const TTL_MS = limits.clientTtlSeconds * 1000;
const ELECTION_TICKS = ELECTION_MS / TICK_MS;

class Fixture {
  readonly cluster = new Cluster(3);
  readonly client: bigint;

  constructor() {
    this.cluster.elect(1n);
    const { result } = this.propose(2n, { kind: 'client-register' });
    this.client = (result as { id: bigint }).id;
  }

  call(sequence: number, floor = 1): ClientCall {
    return { id: this.client, sequence, floor };
  }

  propose(at: bigint, command: Parameters<Cluster['propose']>[1], call?: ClientCall) {
    const id = this.cluster.propose(at, command, call);
    this.cluster.settle();
    return { result: this.cluster.member(at).result(id), fault: this.cluster.member(at).fault(id) };
  }

  /** Everybody agrees, about clients too. */
  expectAgreement(): void {
    this.cluster.tick(3);
    const checksums = [...this.cluster.members.values()].map((member) => member.checksum());
    expect(new Set(checksums).size).toBe(1);
  }
}

const first = { kind: 'put', prevKv: undefined, revision: 2 };

test('registered on one member, known on all', () => {
  const fixture = new Fixture();
  for (const { machine } of fixture.cluster.members.values()) {
    expect(machine.clients.has(fixture.client)).toBe(true);
  }
});

test('the same call on another member gets the first result', () => {
  const fixture = new Fixture();
  expect(fixture.propose(2n, put('a'), fixture.call(1)).result).toEqual(first);
  expect(fixture.propose(3n, put('a'), fixture.call(1)).result).toEqual(first);
  expect(fixture.propose(1n, put('a'), fixture.call(1)).result).toEqual(first);
  expect(fixture.cluster.member(1n).machine.revision).toBe(2);
  fixture.expectAgreement();
});

test('twice in the log at once: one effect, two equal answers', () => {
  const fixture = new Fixture();
  const { cluster } = fixture;
  const requests = [1n, 2n, 3n].map((at) => ({
    at,
    id: cluster.propose(at, put('a'), fixture.call(1)),
  }));
  cluster.settle();
  for (const { at, id } of requests) expect(cluster.member(at).result(id)).toEqual(first);
  expect(cluster.member(2n).published).toEqual([2]);
  fixture.expectAgreement();
});

test('across a change of leader', () => {
  const fixture = new Fixture();
  const { cluster } = fixture;
  // Appended everywhere, but nobody hears of it.
  cluster.cut(2n, 1n);
  cluster.cut(3n, 1n);
  cluster.propose(1n, put('a'), fixture.call(1));
  cluster.settle();
  cluster.crash(1n);
  cluster.heal();
  cluster.elect(3n);
  expect(fixture.propose(2n, put('a'), fixture.call(1)).result).toEqual(first);
  cluster.start(1n);
  fixture.expectAgreement();
  expect(fixture.propose(1n, put('a'), fixture.call(1)).result).toEqual(first);
  expect(cluster.member(1n).machine.revision).toBe(2);
});

test('across a restart of every member', () => {
  const fixture = new Fixture();
  const { cluster } = fixture;
  fixture.propose(1n, put('a'), fixture.call(1));
  for (const id of cluster.members.keys()) cluster.crash(id);
  for (const id of cluster.members.keys()) cluster.start(id);
  cluster.elect(2n);
  expect(fixture.propose(1n, put('a'), fixture.call(1)).result).toEqual(first);
  fixture.expectAgreement();
});

test('across a snapshot', () => {
  const fixture = new Fixture();
  const { cluster } = fixture;
  cluster.isolate(3n);
  fixture.propose(1n, put('a'), fixture.call(1));
  fixture.propose(1n, put('b'), fixture.call(2, 2));
  cluster.release(1n);
  cluster.heal();
  cluster.tick(3);
  expect(cluster.member(3n).installed).toBe(1);
  cluster.crash(1n);
  cluster.tick(ELECTION_TICKS);
  cluster.elect(3n);
  expect(fixture.propose(3n, put('a'), fixture.call(1)).fault).toBe('sequence-forgotten');
  expect(fixture.propose(3n, put('b'), fixture.call(2, 2)).result).toMatchObject({ revision: 3 });
  expect(fixture.propose(3n, put('c'), fixture.call(3, 2)).result).toMatchObject({ revision: 4 });
  cluster.start(1n);
  fixture.expectAgreement();
});

test('an idle client ends by the log alone, and only when the leader says so', () => {
  const fixture = new Fixture();
  const { cluster } = fixture;
  cluster.cut(1n, 2n);
  cluster.pause(TTL_MS);
  for (const id of [2n, 3n]) cluster.tickOnly(id);
  expect(cluster.network.filter(({ kind }) => kind === 'propose')).toEqual([]);
  expect(cluster.member(2n).machine.clients.has(fixture.client)).toBe(true);
  cluster.tick(1);
  expect(cluster.member(1n).machine.clients.has(fixture.client)).toBe(false);
  expect(cluster.member(2n).machine.clients.has(fixture.client)).toBe(true);
  cluster.heal();
  fixture.expectAgreement();
  expect(cluster.member(2n).machine.clients.has(fixture.client)).toBe(false);
  expect(fixture.propose(2n, put('a'), fixture.call(1)).fault).toBe('unknown-client');
});

test('a client that writes is not forgotten', () => {
  const fixture = new Fixture();
  for (let sequence = 1; sequence <= 4; sequence += 1) {
    fixture.cluster.pause(TTL_MS - 1_000);
    fixture.cluster.tick(2);
    expect(fixture.propose(2n, put('a'), fixture.call(sequence)).fault).toBe('none');
  }
});

test('a new leader gives every client its full time', () => {
  const fixture = new Fixture();
  const { cluster } = fixture;
  cluster.pause(TTL_MS - 2 * ELECTION_MS);
  cluster.crash(1n);
  cluster.tick(ELECTION_TICKS);
  cluster.elect(2n);
  cluster.pause(TTL_MS - ELECTION_MS);
  cluster.tick(2);
  expect(cluster.member(2n).machine.clients.has(fixture.client)).toBe(true);
  cluster.pause(ELECTION_MS);
  cluster.tick(2);
  expect(cluster.member(2n).machine.clients.has(fixture.client)).toBe(false);
});

test('a call that overtakes the proposal to end its client keeps the client', () => {
  const fixture = new Fixture();
  const { cluster } = fixture;
  // The call is in the log, but not applied yet, when the leader finds the client idle.
  cluster.pause(TTL_MS);
  const call = cluster.propose(1n, put('a'), fixture.call(1));
  cluster.tickOnly(1n);
  cluster.tick(1);
  expect(cluster.member(1n).result(call)).toEqual(first);
  fixture.expectAgreement();
  expect(fixture.propose(1n, put('a'), fixture.call(1)).result).toEqual(first);
  cluster.pause(TTL_MS);
  cluster.tick(2);
  expect(cluster.member(1n).machine.clients.has(fixture.client)).toBe(false);
});
