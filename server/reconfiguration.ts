/**
 * Whether a change of the members is wise now, as the leader judges it: the rules behind etcd's
 * `--strict-reconfig-check`, its faults included. Whether the change is possible at all is decided
 * later, when it is applied.
 *
 * A member counts as started once it has told the cluster its name. One that was added and never
 * came takes part in every majority without helping any.
 */
import type { FaultCode } from './faults.ts';
import type { MembershipCommand } from './membership.ts';
import { majority } from './raft/quorum.ts';
import type { MemberFact } from './roster.ts';

export type ReconfigurationFacts = {
  readonly members: readonly MemberFact[];
  /** The leader, who judges. */
  readonly self: bigint;
  /** Off: only learners that lag are kept from becoming voters. */
  readonly strict: boolean;
  /** For how long this member has been connected to another one without a break; undefined: it is not. */
  readonly connectedMs: (id: bigint) => number | undefined;
  /** The log index up to which a member is known to hold what the leader holds. */
  readonly match: (id: bigint) => number | undefined;
};

/** A connection that broke within this time may well break again: etcd's HealthInterval. */
const STEADY_MS = 5_000;
/** How much of the leader's log a learner must hold to be promoted: etcd's readyPercent. */
const READY_PART = 0.9;

/** undefined: nothing speaks against it. */
export function reconfigurationFault(
  change: MembershipCommand,
  facts: ReconfigurationFacts,
): FaultCode | undefined {
  switch (change.kind) {
    case 'member-add':
      return facts.strict ? addFault(change.isLearner, facts) : undefined;
    case 'member-remove':
      return facts.strict ? removeFault(change.id, facts) : undefined;
    case 'member-promote':
      return readinessFault(change.id, facts) ?? (facts.strict ? promoteFault(facts) : undefined);
    case 'member-replace':
      return (
        readinessFault(change.learner, facts) ??
        (facts.strict ? replaceFault(change.learner, change.old, facts) : undefined)
      );
    // What a cluster does by itself.
    case 'bootstrap':
    case 'member-leave':
      return undefined;
  }
}

const isStarted = (member: MemberFact): boolean => member.name !== '';
const votersOf = (members: readonly MemberFact[]): readonly MemberFact[] =>
  members.filter((member) => !member.isLearner);

/** A learner decides nothing, so a quorum that is there stays one. */
function addFault(isLearner: boolean, facts: ReconfigurationFacts): FaultCode | undefined {
  if (isLearner) return undefined;
  const voters = votersOf(facts.members);
  const started = voters.filter(isStarted).length;
  // One member may become two: the first has to wait for the second in any case.
  const isFirstGrowth = voters.length === 1 && started === 1;
  if (!isFirstGrowth && started < majority(voters.length + 1)) return 'member-not-enough-started';
  return voters.every(({ id }) => isSteady(id, facts)) ? undefined : 'unhealthy';
}

function removeFault(id: bigint, facts: ReconfigurationFacts): FaultCode | undefined {
  const voters = votersOf(facts.members);
  if (!voters.some((voter) => voter.id === id)) return undefined;
  const left = voters.filter((voter) => voter.id !== id);
  if (left.filter(isStarted).length < majority(left.length)) return 'member-not-enough-started';
  // One that is down takes no part in the quorum that there is.
  if (id !== facts.self && facts.connectedMs(id) === undefined) return undefined;
  const steady = left.filter((voter) => isSteady(voter.id, facts)).length;
  return steady < majority(left.length) ? 'unhealthy' : undefined;
}

/** Unknown members and voters are the state machine's to refuse. */
function readinessFault(id: bigint, facts: ReconfigurationFacts): FaultCode | undefined {
  const isLearner = facts.members.some((member) => member.id === id && member.isLearner);
  if (!isLearner) return undefined;
  const ready = (facts.match(facts.self) ?? 0) * READY_PART;
  return (facts.match(id) ?? 0) < ready ? 'learner-not-ready' : undefined;
}

/** The learner itself is started: it could not be in sync otherwise. */
function promoteFault({ members }: ReconfigurationFacts): FaultCode | undefined {
  const voters = votersOf(members);
  const started = voters.filter(isStarted).length + 1;
  return started < majority(voters.length + 1) ? 'member-not-enough-started' : undefined;
}

/** The voters as they will be must have a quorum without the old one, which may be long gone. */
function replaceFault(
  learner: bigint,
  old: bigint,
  facts: ReconfigurationFacts,
): FaultCode | undefined {
  const voters = votersOf(facts.members);
  if (!voters.some((voter) => voter.id === old)) return undefined;
  const ids = voters.filter(({ id }) => id !== old).map(({ id }) => id);
  const connected = [...ids, learner].filter(
    (id) => id === facts.self || facts.connectedMs(id) !== undefined,
  );
  return connected.length < majority(voters.length) ? 'unhealthy' : undefined;
}

function isSteady(id: bigint, { self, connectedMs }: ReconfigurationFacts): boolean {
  return id === self || (connectedMs(id) ?? 0) >= STEADY_MS;
}
