/**
 * Who takes part: the members whose majorities decide, and the learners, who are sent everything and
 * decide nothing (Raft dissertation, chapter 4).
 *
 * ```
 *    simple                         joint                              simple
 *    voters 1 2 3  ── changed ──▶   voters 2 3 4          ── left ──▶  voters 2 3 4
 *                   several at once  outgoing 1 2 3
 * ```
 *
 * A change of one voter needs no joint configuration: the majorities before and after it share a
 * member anyway. Several changes do; while it lasts every decision takes both majorities.
 *
 * Invariant G1: a majority of any configuration shares a member with one of the next, as each is made
 * from the one before by `changed` or `left`.
 */
import type { NodeId } from './message.ts';

/** Every list is ascending and without duplicates. */
export type Configuration = {
  /** The incoming majority; the only one unless joint. */
  readonly voters: readonly NodeId[];
  /** The outgoing majority; empty unless joint. */
  readonly outgoing: readonly NodeId[];
  readonly learners: readonly NodeId[];
  /** Voters of `outgoing` that become learners when it is left. */
  readonly learnersNext: readonly NodeId[];
  /** The leader leaves the joint configuration by itself, as soon as it is in force. */
  readonly autoLeave: boolean;
};

export type MembershipChange = {
  /** `add-voter` promotes a learner, `add-learner` demotes a voter. */
  readonly kind: 'add-voter' | 'add-learner' | 'remove';
  readonly node: NodeId;
};

/** Of a member that nobody has introduced yet. */
export const emptyConfiguration: Configuration = {
  voters: [],
  outgoing: [],
  learners: [],
  learnersNext: [],
  autoLeave: false,
};

export function singleMember(id: NodeId): Configuration {
  return { ...emptyConfiguration, voters: [id] };
}

export function isJoint(configuration: Configuration): boolean {
  return configuration.outgoing.length > 0;
}

/** Whether its vote counts in a majority; one that is on its way out still does. */
export function isVoter({ voters, outgoing }: Configuration, node: NodeId): boolean {
  return voters.includes(node) || outgoing.includes(node);
}

/** Voters of either majority, ascending. */
export function votersOf({ voters, outgoing }: Configuration): readonly NodeId[] {
  return union(voters, outgoing);
}

/** Voters and learners, ascending. */
export function membersOf(configuration: Configuration): readonly NodeId[] {
  return union(votersOf(configuration), configuration.learners);
}

/**
 * The configuration after one change, or the joint configuration for several, which is left by
 * itself.
 *
 * @returns undefined when it is not allowed: a joint configuration is not left yet, a member is named
 * twice or would not change, no voters would remain.
 */
export function changed(
  current: Configuration,
  changes: readonly MembershipChange[],
): Configuration | undefined {
  const nodes = new Set(changes.map((change) => change.node));
  const isPossible =
    !isJoint(current) &&
    changes.length > 0 &&
    nodes.size === changes.length &&
    changes.every((change) => makesADifference(current, change));
  if (!isPossible) return undefined;

  const named = (kind: MembershipChange['kind']) =>
    changes.filter((change) => change.kind === kind).map((change) => change.node);
  const isUntouched = (node: NodeId) => !nodes.has(node);
  const voters = union(current.voters.filter(isUntouched), named('add-voter'));
  const learners = union(current.learners.filter(isUntouched), named('add-learner'));
  if (voters.length === 0) return undefined;
  if (changes.length === 1) return { ...emptyConfiguration, voters, learners };
  return {
    voters,
    outgoing: current.voters,
    learners: learners.filter((node) => !current.voters.includes(node)),
    learnersNext: learners.filter((node) => current.voters.includes(node)),
    autoLeave: true,
  };
}

/** What follows a joint configuration. */
export function left({ voters, learners, learnersNext }: Configuration): Configuration {
  return { ...emptyConfiguration, voters, learners: union(learners, learnersNext) };
}

export function isSameConfiguration(a: Configuration, b: Configuration): boolean {
  return (
    isSameList(a.voters, b.voters) &&
    isSameList(a.outgoing, b.outgoing) &&
    isSameList(a.learners, b.learners) &&
    isSameList(a.learnersNext, b.learnersNext) &&
    a.autoLeave === b.autoLeave
  );
}

/** Why it cannot be one; undefined when it can. */
export function configurationFault(configuration: Configuration): string | undefined {
  const { voters, outgoing, learners, learnersNext } = configuration;
  const lists = Object.entries({ voters, outgoing, learners, learnersNext });
  const unsorted = lists.find(([, list]) => !isAscending(list));
  if (unsorted !== undefined)
    return `'${unsorted[0]}' must be ascending, above 0, without duplicates`;
  if (learners.some((node) => isVoter(configuration, node))) return 'a learner must not be a voter';
  if (learnersNext.some((node) => !outgoing.includes(node) || voters.includes(node))) {
    return `'learnersNext' must be in 'outgoing' and not in 'voters'`;
  }
  return outgoing.length > 0 && voters.length === 0 ? `'voters' must not be empty` : undefined;
}

function makesADifference({ voters, learners }: Configuration, change: MembershipChange): boolean {
  const { kind, node } = change;
  if (node <= 0n) return false;
  if (kind === 'add-voter') return !voters.includes(node);
  if (kind === 'add-learner') return !learners.includes(node);
  return voters.includes(node) || learners.includes(node);
}

function union(a: readonly NodeId[], b: readonly NodeId[]): readonly NodeId[] {
  return [...new Set([...a, ...b])].sort((x, y) => (x < y ? -1 : 1));
}

function isAscending(list: readonly NodeId[]): boolean {
  return list.every((node, at) => node > (list[at - 1] ?? 0n));
}

function isSameList(a: readonly NodeId[], b: readonly NodeId[]): boolean {
  return a.length === b.length && a.every((node, at) => node === b[at]);
}
