import { describe, expect, test } from 'vitest';
import type { FaultCode } from '../../server/faults.ts';
import type { MembershipCommand } from '../../server/membership.ts';
import { type ReconfigurationFacts, reconfigurationFault } from '../../server/reconfiguration.ts';
import type { MemberFact } from '../../server/roster.ts';

const member = (id: number, given: Partial<MemberFact> = {}): MemberFact => ({
  id: BigInt(id),
  name: `m${id}`,
  peerUrls: [`http://m${id}:2380`],
  clientUrls: [],
  isLearner: false,
  incarnation: 1n,
  ...given,
});
const unstarted = (id: number): MemberFact => member(id, { name: '' });
const learner = (id: number): MemberFact => member(id, { isLearner: true });

type Situation = {
  readonly members: readonly MemberFact[];
  /** Milliseconds by id; all are connected for long by default. */
  readonly connected?: Readonly<Record<number, number | undefined>>;
  readonly match?: Readonly<Record<number, number>>;
  readonly strict?: boolean;
};

/** As member 1 judges it, with a log of 1,000 entries. */
function judge(
  change: MembershipCommand,
  { members, connected = {}, match = {}, strict = true }: Situation,
): FaultCode | undefined {
  const facts: ReconfigurationFacts = {
    members,
    self: 1n,
    strict,
    connectedMs: (id) => (Number(id) in connected ? connected[Number(id)] : 60_000),
    match: (id) => (id === 1n ? 1_000 : (match[Number(id)] ?? 1_000)),
  };
  return reconfigurationFault(change, facts);
}

const three = [member(1), member(2), member(3)];
const addVoter: MembershipCommand = { kind: 'member-add', id: 9n, peerUrls: [], isLearner: false };
const addLearner: MembershipCommand = { ...addVoter, isLearner: true };

describe('adding a voter', () => {
  test.each<[string, Situation, FaultCode | undefined]>([
    ['to one', { members: [member(1)] }, undefined],
    ['to three', { members: three }, undefined],
    [
      'to one and one that never came',
      { members: [member(1), unstarted(2)] },
      'member-not-enough-started',
    ],
    ['to three and one that never came', { members: [...three, unstarted(4)] }, undefined],
    [
      'to two and two that never came',
      { members: [member(1), member(2), unstarted(3), unstarted(4)] },
      'member-not-enough-started',
    ],
    ['while one is down', { members: three, connected: { 3: undefined } }, 'unhealthy'],
    ['while one has just come back', { members: three, connected: { 3: 4_999 } }, 'unhealthy'],
    ['when it is back for long', { members: three, connected: { 3: 5_000 } }, undefined],
    [
      'unchecked, while one is down',
      { members: three, connected: { 3: undefined }, strict: false },
      undefined,
    ],
  ])('%s', (_, situation, expected) => {
    expect(judge(addVoter, situation)).toBe(expected);
  });
});

test('a learner may be added while voters are down: it is how they are replaced', () => {
  expect(judge(addLearner, { members: three, connected: { 3: undefined } })).toBeUndefined();
});

describe('removing', () => {
  const remove = (id: number): MembershipCommand => ({ kind: 'member-remove', id: BigInt(id) });
  test.each<[string, number, Situation, FaultCode | undefined]>([
    ['one of three', 3, { members: three }, undefined],
    ['the leader', 1, { members: three }, undefined],
    ['the only one', 1, { members: [member(1)] }, 'member-not-enough-started'],
    ['one that is down', 3, { members: three, connected: { 3: undefined } }, undefined],
    [
      'one that is up while another is down',
      2,
      { members: three, connected: { 3: undefined } },
      'unhealthy',
    ],
    [
      'the leader while another is down',
      1,
      { members: three, connected: { 3: undefined } },
      'unhealthy',
    ],
    [
      'one of two started while another never came',
      2,
      { members: [member(1), member(2), unstarted(3)] },
      'member-not-enough-started',
    ],
    [
      'the one that never came',
      3,
      { members: [member(1), member(2), unstarted(3)], connected: { 3: undefined } },
      undefined,
    ],
    [
      'a learner, whatever is down',
      4,
      { members: [...three, learner(4)], connected: { 2: undefined, 3: undefined } },
      undefined,
    ],
    ['one that nobody knows', 7, { members: three, connected: { 7: undefined } }, undefined],
    [
      'unchecked, one that is up while another is down',
      2,
      { members: three, connected: { 3: undefined }, strict: false },
      undefined,
    ],
  ])('%s', (_, id, situation, expected) => {
    expect(judge(remove(id), situation)).toBe(expected);
  });
});

describe('promoting', () => {
  const promote: MembershipCommand = { kind: 'member-promote', id: 4n };
  const members = [...three, learner(4)];
  test.each<[string, Situation, FaultCode | undefined]>([
    ['one that has nine tenths of the log', { members, match: { 4: 900 } }, undefined],
    ['one that has less', { members, match: { 4: 899 } }, 'learner-not-ready'],
    [
      'unchecked, one that has less',
      { members, match: { 4: 899 }, strict: false },
      'learner-not-ready',
    ],
    [
      'where it would not make a quorum of started ones',
      { members: [member(1), unstarted(2), unstarted(3), learner(4)] },
      'member-not-enough-started',
    ],
    [
      'a voter: for the state machine to say',
      { members: [...three, member(4)], match: { 4: 0 } },
      undefined,
    ],
  ])('%s', (_, situation, expected) => {
    expect(judge(promote, situation)).toBe(expected);
  });
});

describe('replacing', () => {
  const replace: MembershipCommand = { kind: 'member-replace', learner: 4n, old: 3n };
  const members = [...three, learner(4)];
  test.each<[string, Situation, FaultCode | undefined]>([
    ['one that is long gone', { members, connected: { 3: undefined } }, undefined],
    ['one that is there', { members }, undefined],
    ['by one that lags', { members, match: { 4: 10 } }, 'learner-not-ready'],
    [
      'where another one is down as well',
      { members, connected: { 2: undefined, 4: undefined } },
      'unhealthy',
    ],
  ])('%s', (_, situation, expected) => {
    expect(judge(replace, situation)).toBe(expected);
  });
});
