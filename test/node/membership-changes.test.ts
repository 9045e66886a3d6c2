/** When a change of the members is done. */
import { expect, test } from 'vitest';
import {
  MembershipChanges,
  type MembershipChangesOptions,
} from '../../server/membership-changes.ts';
import type { MemberFact } from '../../server/roster.ts';

const member = (id: bigint, isLearner = false): MemberFact => ({
  id,
  name: `m${id}`,
  peerUrls: [],
  clientUrls: [],
  isLearner,
  incarnation: 1n,
});

/** The leader, 1, of a cluster where 3 takes the place of 2. */
const leader = () => {
  const replica = {
    isServingLeader: true,
    lastIndex: 10,
    appliedIndex: 10,
    machine: { members: [member(1n), member(2n), member(3n, true)], removed: [] },
  };
  const changes = new MembershipChanges({
    self: 1n,
    node: { proposeMembership: async () => ({ kind: 'members' }) },
    replica,
    questions: {},
    progress: () => [{ id: 3n, match: 10 }],
    connectedMs: () => 60_000,
    strictReconfigCheck: true,
  } as unknown as MembershipChangesOptions);
  return { replica, changes };
};
const replace = { kind: 'member-replace', learner: 3n, old: 2n } as const;
const turn = () => new Promise((resolve) => setImmediate(resolve));

test('a member is replaced when it is out, not when its vote is to go', async () => {
  const { replica, changes } = leader();
  let index: number | undefined;
  const made = changes.makeHere(replace).then((reply) => {
    index = reply.index;
  });
  await turn();
  // The joint configuration is in force: both take part.
  replica.machine.members = [member(1n), member(2n), member(3n)];
  replica.appliedIndex = 11;
  changes.somethingChanged();
  await turn();
  expect(index).toBeUndefined();
  replica.machine.members = [member(1n), member(3n)];
  replica.appliedIndex = 12;
  changes.somethingChanged();
  await made;
  expect(index).toBe(12);
});

test('a leader that leads no more does not know how it ends', async () => {
  const { replica, changes } = leader();
  const made = changes.makeHere(replace);
  await turn();
  replica.isServingLeader = false;
  changes.somethingChanged();
  await expect(made).rejects.toMatchObject({ code: 'leader-changed' });
});
