/** Configurations: which changes are allowed, what comes of them, and that majorities always meet. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  type Configuration,
  changed,
  configurationFault,
  emptyConfiguration,
  isJoint,
  isSameConfiguration,
  isVoter,
  left,
  type MembershipChange,
  membersOf,
  singleMember,
  votersOf,
} from '../../server/raft/configuration.ts';
import type { NodeId } from '../../server/raft/message.ts';
import { isQuorum, quorumValue, tally } from '../../server/raft/quorum.ts';

const three: Configuration = { ...emptyConfiguration, voters: [1n, 2n, 3n] };
const add = (node: NodeId): MembershipChange => ({ kind: 'add-voter', node });
const learn = (node: NodeId): MembershipChange => ({ kind: 'add-learner', node });
const remove = (node: NodeId): MembershipChange => ({ kind: 'remove', node });

test('one change is simple', () => {
  expect(changed(three, [add(4n)])).toEqual({ ...emptyConfiguration, voters: [1n, 2n, 3n, 4n] });
  expect(changed(three, [remove(2n)])).toEqual({ ...emptyConfiguration, voters: [1n, 3n] });
  const withLearner = changed(three, [learn(4n)]) ?? three;
  expect(withLearner).toEqual({ ...three, learners: [4n] });
  expect(changed(withLearner, [add(4n)])?.voters).toEqual([1n, 2n, 3n, 4n]);
  expect(changed(withLearner, [add(4n)])?.learners).toEqual([]);
  expect(changed(three, [learn(3n)])).toEqual({
    ...emptyConfiguration,
    voters: [1n, 2n],
    learners: [3n],
  });
});

test('several changes are joint, and a demoted voter learns only after they are left', () => {
  const joint = changed({ ...three, learners: [9n] }, [add(9n), learn(3n), learn(8n), remove(1n)]);
  expect(joint).toEqual({
    voters: [2n, 9n],
    outgoing: [1n, 2n, 3n],
    learners: [8n],
    learnersNext: [3n],
    autoLeave: true,
  });
  expect(joint && left(joint)).toEqual({
    ...emptyConfiguration,
    voters: [2n, 9n],
    learners: [3n, 8n],
  });
  expect(left(three)).toEqual(three);
});

test('what is not allowed gives nothing', () => {
  const joint = changed(three, [add(4n), remove(1n)]) ?? three;
  expect(changed(joint, [add(5n)])).toBeUndefined();
  expect(changed(three, [])).toBeUndefined();
  expect(changed(three, [add(3n)])).toBeUndefined();
  expect(changed(three, [remove(4n)])).toBeUndefined();
  expect(changed(three, [add(0n)])).toBeUndefined();
  expect(changed(three, [add(4n), remove(4n)])).toBeUndefined();
  expect(changed(singleMember(1n), [remove(1n)])).toBeUndefined();
  expect(changed({ ...three, learners: [4n] }, [learn(4n)])).toBeUndefined();
  expect(changed(three, [remove(1n), remove(2n), learn(3n)])).toBeUndefined();
});

test('a configuration that is none says why', () => {
  const fault = (change: Partial<Configuration>) => configurationFault({ ...three, ...change });
  expect(fault({})).toBeUndefined();
  expect(configurationFault(emptyConfiguration)).toBeUndefined();
  expect(fault({ voters: [2n, 1n] })).toContain("'voters' must be ascending");
  expect(fault({ learners: [0n] })).toContain("'learners' must be ascending, above 0");
  expect(fault({ learners: [3n] })).toContain('a learner must not be a voter');
  expect(fault({ outgoing: [1n, 3n], learnersNext: [3n] })).toContain("'learnersNext'");
  expect(fault({ voters: [], outgoing: [1n] })).toContain("'voters' must not be empty");
});

test('a joint configuration decides by both majorities', () => {
  const joint: Configuration = {
    ...emptyConfiguration,
    voters: [1n, 4n, 5n],
    outgoing: [1n, 2n, 3n],
  };
  const reached = new Map<NodeId, number>([
    [1n, 9],
    [2n, 8],
    [3n, 1],
    [4n, 7],
    [5n, 2],
  ]);
  expect(quorumValue(joint, (voter) => reached.get(voter) ?? 0)).toBe(7);
  expect(isQuorum(joint, (voter) => [1n, 2n, 3n].includes(voter))).toBe(false);
  expect(isQuorum(joint, (voter) => [1n, 2n, 4n].includes(voter))).toBe(true);
  const votes = (yes: NodeId[], no: NodeId[]) =>
    new Map([...yes.map((id) => [id, true] as const), ...no.map((id) => [id, false] as const)]);
  expect(tally(joint, votes([1n, 2n, 3n], []))).toBe('open');
  expect(tally(joint, votes([1n, 2n, 5n], []))).toBe('won');
  expect(tally(joint, votes([1n, 2n, 3n], [4n, 5n]))).toBe('lost');
  expect(votersOf(joint)).toEqual([1n, 2n, 3n, 4n, 5n]);
  expect(isVoter(joint, 3n)).toBe(true);
});

const node = fc.bigInt({ min: 1n, max: 5n });
const kind = fc.constantFrom('add-voter' as const, 'add-learner' as const, 'remove' as const);
const changes = fc.array(fc.record({ kind, node }), { minLength: 1, maxLength: 4 });

/** All sets of members that could decide alone. */
function quorums(configuration: Configuration): ReadonlySet<NodeId>[] {
  const voters = votersOf(configuration);
  const sets = Array.from({ length: 2 ** voters.length }, (_, bits) => {
    return new Set(voters.filter((_, at) => (bits >> at) % 2 === 1));
  });
  return sets.filter((set) => isQuorum(configuration, (voter) => set.has(voter)));
}

test('whatever is changed, each configuration is well-formed and its majorities meet those before', () => {
  fc.assert(
    fc.property(fc.array(changes, { maxLength: 8 }), (steps) => {
      let current = singleMember(1n);
      for (const step of steps) {
        const next = isJoint(current) ? left(current) : changed(current, step);
        if (next === undefined) continue;
        expect(configurationFault(next)).toBeUndefined();
        expect(isSameConfiguration(next, current)).toBe(false);
        expect(membersOf(left(next)).length).toBeGreaterThan(0);
        const before = quorums(current);
        for (const one of quorums(next)) {
          expect(before.every((other) => [...other].some((member) => one.has(member)))).toBe(true);
        }
        current = next;
      }
    }),
    { numRuns: 200 },
  );
});
