import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  decodeMembership,
  encodeMembership,
  type MembershipCommand,
} from '../../server/membership.ts';
import { DecodeError } from '../../server/mvcc/binary.ts';
import { configurationFault, emptyConfiguration } from '../../server/raft/configuration.ts';
import { Roster } from '../../server/roster.ts';
import { SortedState } from '../support/sorted-state.ts';
import { membership } from './arbitrary-members.ts';
import { Rig } from './rig.ts';

const url = (id: bigint | string) => `http://member-${id}:2380`;
const founders = [1n, 2n, 3n].map((id) => ({ id, name: `m${id}`, peerUrls: [url(id)] }));
const bootstrap: MembershipCommand = { kind: 'bootstrap', members: founders };
const add = (id: bigint, isLearner = false, peerUrls = [url(id)]): MembershipCommand => ({
  kind: 'member-add',
  id,
  peerUrls,
  isLearner,
});
const remove = (id: bigint): MembershipCommand => ({ kind: 'member-remove', id });
const promote = (id: bigint): MembershipCommand => ({ kind: 'member-promote', id });
const replace = (learner: bigint, old: bigint): MembershipCommand => ({
  kind: 'member-replace',
  learner,
  old,
});
const leave: MembershipCommand = { kind: 'member-leave' };
const update = (memberId: bigint, peerUrls: readonly string[]) =>
  ({ kind: 'member-update', memberId, peerUrls }) as const;
const introduce = (memberId: bigint, incarnation = 77n) =>
  ({
    kind: 'introduce',
    memberId,
    name: `m${memberId}`,
    clientUrls: ['http://c'],
    incarnation,
  }) as const;

function founded(): Rig {
  const rig = new Rig();
  rig.apply(bootstrap);
  return rig;
}

/** The fault of a command, which must not change anything. */
function faultOf(rig: Rig, command: Parameters<Rig['apply']>[0]): string {
  const before = { dump: (rig.state as SortedState).dump(), members: rig.machine.members };
  const { result, writes } = rig.apply(command);
  expect(writes).toEqual([]);
  expect((rig.state as SortedState).dump()).toEqual(before.dump);
  expect(rig.machine.members).toBe(before.members);
  return result.kind === 'fault' ? result.code : `no fault but ${result.kind}`;
}

const ids = (rig: Rig) => rig.machine.members.map(({ id }) => id);

function view(rig: Rig): unknown {
  const { members, removed, configuration, configurationIndex } = rig.machine;
  return { members, removed, configuration, configurationIndex };
}

/** A restart must find the same. */
function expectKept(rig: Rig): void {
  const before = view(rig);
  rig.restart();
  expect(view(rig)).toEqual(before);
}

test('a cluster is founded with its first members, once', () => {
  const rig = founded();
  expect(rig.machine.configuration).toEqual({ ...emptyConfiguration, voters: [1n, 2n, 3n] });
  expect(rig.machine.members).toEqual(
    founders.map((founder) => ({ ...founder, clientUrls: [], isLearner: false, incarnation: 0n })),
  );
  expect(rig.machine.configurationIndex).toBe(1);
  expectKept(rig);
  const before = view(rig);
  rig.apply({ kind: 'bootstrap', members: [{ id: 9n, name: 'late', peerUrls: [url(9n)] }] });
  expect(view(rig)).toEqual(before);
});

test('founding by an entry and founding a restored state give the same members', () => {
  const byEntry = founded();
  const restored = new Rig();
  restored.state.apply(0, new Roster().bootstrap(founders, 0));
  restored.machine.load(restored.state, 0);
  const { members, configuration } = byEntry.machine;
  expect(restored.machine).toMatchObject({ members, configuration });
  expectKept(restored);
});

test('founders in another order are the same founders', () => {
  const rig = new Rig();
  rig.apply({ kind: 'bootstrap', members: [...founders].reverse() });
  const other = founded();
  expect((rig.state as SortedState).dump()).toEqual((other.state as SortedState).dump());
  expect(rig.checksum()).toBe(other.checksum());
});

test('adding a voter and a learner', () => {
  const rig = founded();
  const { result } = rig.apply(add(4n, true));
  expect(result).toMatchObject({ kind: 'member-add', index: 2, revision: 1 });
  expect(result).toHaveProperty('members', rig.machine.members);
  expect(rig.machine.configuration).toMatchObject({ voters: [1n, 2n, 3n], learners: [4n] });
  rig.apply(add(5n));
  expect(rig.machine.configuration).toMatchObject({ voters: [1n, 2n, 3n, 5n], learners: [4n] });
  expect(rig.machine.members.map(({ id, isLearner, name }) => [id, isLearner, name])).toEqual([
    [1n, false, 'm1'],
    [2n, false, 'm2'],
    [3n, false, 'm3'],
    [4n, true, ''],
    [5n, false, ''],
  ]);
  expectKept(rig);
});

test('what speaks against adding a member', () => {
  const rig = founded();
  rig.apply(add(4n, true));
  expect(faultOf(rig, add(2n, false, [url('new')]))).toBe('member-exist');
  expect(faultOf(rig, add(9n, false, [url(2n)]))).toBe('peer-url-exist');
  expect(faultOf(rig, add(9n, false, [url('new'), url(4n)]))).toBe('peer-url-exist');
  expect(faultOf(rig, add(9n, false, []))).toBe('member-bad-urls');
  expect(faultOf(rig, add(9n, false, ['']))).toBe('member-bad-urls');
  expect(faultOf(rig, add(9n, true))).toBe('too-many-learners');
  expect(faultOf(rig, add(0n))).toBe('member-not-found');
  rig.apply(remove(3n));
  expect(faultOf(rig, add(3n))).toBe('member-not-found');
});

test('removing a member: its id is never used again, its address may be', () => {
  const rig = founded();
  expect(rig.result(remove(3n))).toMatchObject({ kind: 'member-remove', index: 2 });
  expect(ids(rig)).toEqual([1n, 2n]);
  expect(rig.machine.removed).toEqual([3n]);
  expect(rig.machine.configuration).toMatchObject({ voters: [1n, 2n] });
  expectKept(rig);
  expect(faultOf(rig, remove(3n))).toBe('member-not-found');
  expect(faultOf(rig, remove(9n))).toBe('member-not-found');
  rig.apply(add(4n, false, [url(3n)]));
  expect(ids(rig)).toEqual([1n, 2n, 4n]);
  rig.apply(remove(4n));
  rig.apply(remove(1n));
  expect(rig.machine.removed).toEqual([1n, 3n, 4n]);
  expect(faultOf(rig, remove(2n))).toBe('member-not-enough-started');
});

test('a learner may be removed, and another one come', () => {
  const rig = founded();
  rig.apply(add(4n, true));
  rig.apply(remove(4n));
  rig.apply(add(5n, true));
  expect(rig.machine.configuration).toMatchObject({ voters: [1n, 2n, 3n], learners: [5n] });
});

test('promoting a learner', () => {
  const rig = founded();
  rig.apply(add(4n, true));
  rig.apply(introduce(4n));
  expect(rig.result(promote(4n))).toMatchObject({ kind: 'member-promote', index: 4 });
  expect(rig.machine.configuration).toMatchObject({ voters: [1n, 2n, 3n, 4n], learners: [] });
  expect(rig.machine.members[3]).toMatchObject({ name: 'm4', isLearner: false, incarnation: 77n });
  expectKept(rig);
  expect(faultOf(rig, promote(4n))).toBe('member-not-learner');
  expect(faultOf(rig, promote(9n))).toBe('member-not-found');
});

test('a learner replaces a voter in one joint change; the voter stays known until it is left', () => {
  const rig = founded();
  rig.apply(add(4n, true));
  expect(rig.result(replace(4n, 3n))).toMatchObject({ kind: 'member-replace', index: 3 });
  expect(rig.machine.configuration).toEqual({
    voters: [1n, 2n, 4n],
    outgoing: [1n, 2n, 3n],
    learners: [],
    learnersNext: [],
    autoLeave: true,
  });
  expect(ids(rig)).toEqual([1n, 2n, 3n, 4n]);
  expect(rig.machine.removed).toEqual([]);
  expectKept(rig);
  for (const command of [add(9n), remove(2n), replace(4n, 2n)]) {
    const code = faultOf(rig, command);
    expect(code).toBe(command.kind === 'member-replace' ? 'member-not-learner' : 'change-pending');
  }
  rig.apply(leave);
  expect(rig.machine.configuration).toEqual({ ...emptyConfiguration, voters: [1n, 2n, 4n] });
  expect(ids(rig)).toEqual([1n, 2n, 4n]);
  expect(rig.machine.removed).toEqual([3n]);
  expect(rig.machine.configurationIndex).toBe(rig.state.appliedIndex);
  expectKept(rig);
});

test('leaving what is not joint changes nothing', () => {
  const rig = founded();
  const before = view(rig);
  expect(rig.apply(leave)).toMatchObject({ writes: [], result: { kind: 'member-leave' } });
  expect(view(rig)).toEqual(before);
});

test('what speaks against replacing a member', () => {
  const rig = founded();
  expect(faultOf(rig, replace(9n, 1n))).toBe('member-not-found');
  expect(faultOf(rig, replace(2n, 1n))).toBe('member-not-learner');
  rig.apply(add(4n, true));
  expect(faultOf(rig, replace(4n, 9n))).toBe('member-not-found');
  expect(faultOf(rig, replace(4n, 4n))).toBe('member-not-found');
});

test('updating addresses keeps everything else; a learner stays one', () => {
  const rig = founded();
  rig.apply(add(4n, true));
  rig.apply(introduce(4n));
  expect(rig.result(update(4n, [url('moved')]))).toMatchObject({ kind: 'member-update', index: 4 });
  expect(rig.machine.members[3]).toEqual({
    id: 4n,
    name: 'm4',
    peerUrls: [url('moved')],
    clientUrls: ['http://c'],
    isLearner: true,
    incarnation: 77n,
  });
  expect(rig.machine.configurationIndex).toBe(4);
  expectKept(rig);
  rig.apply(update(4n, [url('moved'), url('too')]));
  expect(faultOf(rig, update(4n, [url(1n)]))).toBe('peer-url-exist');
  expect(faultOf(rig, update(4n, []))).toBe('member-bad-urls');
  expect(faultOf(rig, update(9n, [url(9n)]))).toBe('member-not-found');
  rig.apply(remove(4n));
  expect(faultOf(rig, update(4n, [url(4n)]))).toBe('member-not-found');
});

test('only members introduce themselves', () => {
  const rig = founded();
  expect(rig.result(introduce(2n, 5n))).toEqual({ kind: 'introduce', revision: 1 });
  expect(rig.machine.members[1]).toMatchObject({ name: 'm2', incarnation: 5n });
  expect(rig.machine.configurationIndex).toBe(1);
  expect(faultOf(rig, introduce(9n))).toBe('member-not-found');
  rig.apply(remove(2n));
  expect(faultOf(rig, introduce(2n))).toBe('member-not-found');
});

test('a state from before there were several members says by its only member who votes', () => {
  const rig = new Rig();
  const member = {
    kind: 'member',
    memberId: 7n,
    name: 'old',
    peerUrls: [url(7n)],
    clientUrls: [],
  } as const;
  expect(rig.machine.configuration).toEqual(emptyConfiguration);
  rig.apply(member);
  expect(rig.machine.configuration).toEqual({ ...emptyConfiguration, voters: [7n] });
  expect(rig.machine.configurationIndex).toBe(0);
  expectKept(rig);
  rig.apply(add(8n, true));
  expect(rig.machine.configuration).toEqual({
    ...emptyConfiguration,
    voters: [7n],
    learners: [8n],
  });
  expectKept(rig);
  expect(faultOf(rig, { ...member, memberId: 9n })).toBe('member-not-found');
  rig.apply(member);
  expect(ids(rig)).toEqual([7n, 8n]);
});

test('members as the version before stored them are read', () => {
  const state = new SortedState();
  // One peer address, no client address, the name, the address.
  const stored = Buffer.concat([Buffer.of(0, 1, 0, 3), Buffer.from('old'), Buffer.of(2)]);
  const key = Buffer.concat([Buffer.from('mmember/'), Buffer.from('0000000000000007', 'hex')]);
  state.apply(5, [{ kind: 'put', key, value: Buffer.concat([stored, Buffer.from('u1')]) }]);
  const rig = new Rig(state);
  expect(rig.machine.members).toEqual([
    { id: 7n, name: 'old', peerUrls: ['u1'], clientUrls: [], isLearner: false, incarnation: 0n },
  ]);
  expect(rig.machine.configuration).toEqual({ ...emptyConfiguration, voters: [7n] });
});

test('the checksum covers removed members and the configuration', () => {
  const rig = founded();
  const seen = [rig.checksum()];
  for (const command of [add(4n, true), replace(4n, 3n), leave, remove(1n)]) {
    rig.apply(command);
    seen.push(rig.checksum());
  }
  expect(new Set(seen).size).toBe(seen.length);
});

test('whatever is asked, members and configuration fit together', () => {
  fc.assert(
    fc.property(fc.array(membership, { maxLength: 30, size: 'max' }), (commands) => {
      const rig = new Rig();
      const gone = new Set<bigint>();
      for (const command of commands) {
        const before = rig.machine.members;
        const { result } = rig.apply(command);
        const { configuration, members, removed } = rig.machine;
        expect(configurationFault(configuration)).toBeUndefined();
        const { voters, outgoing, learners } = configuration;
        expect(new Set(ids(rig))).toEqual(new Set([...voters, ...outgoing, ...learners]));
        for (const { id, isLearner } of members) expect(isLearner).toBe(learners.includes(id));
        for (const { id } of before) if (!ids(rig).includes(id)) gone.add(id);
        for (const id of ids(rig)) expect(gone.has(id)).toBe(false);
        expect(new Set(removed)).toEqual(gone);
        if (before.length > 0) expect(voters.length).toBeGreaterThan(0);
        if (result.kind === 'fault') expect(rig.machine.members).toBe(before);
        expectKept(rig);
      }
    }),
    { numRuns: 300 },
  );
});

test('changes of members are written and read back', () => {
  fc.assert(
    fc.property(membership, (command) => {
      expect(decodeMembership(encodeMembership(command))).toEqual(command);
    }),
  );
  expect(encodeMembership(leave)).toHaveLength(0);
});

test('any bytes are a change of members or are refused with a typed error', () => {
  const data = fc
    .tuple(fc.integer({ min: 30, max: 36 }), fc.uint8Array({ maxLength: 60 }))
    .map(([tag, rest]) => Uint8Array.of(1, tag, ...rest));
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ minLength: 1, maxLength: 60 }), data), (bytes) => {
      try {
        decodeMembership(bytes);
      } catch (error) {
        expect(error).toBeInstanceOf(DecodeError);
      }
    }),
    { numRuns: 2000 },
  );
});
