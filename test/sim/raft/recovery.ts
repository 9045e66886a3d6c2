/**
 * The second phase: the faults are over, a random quorum is healed and the rest stays down. It must
 * elect a leader, commit something new and bring everybody in it up to date, soon.
 */
import type { Configuration } from '../../../server/raft/configuration.ts';
import type { NodeId } from '../../../server/raft/message.ts';
import { hold } from '../engine/violation.ts';
import { isQuorum } from './majorities.ts';
import type { RaftMember } from './member.ts';
import { configurationAfter } from './membership.ts';
import type { RaftSimulation } from './simulation.ts';
import { TICK_US } from './world.ts';

/** A healed quorum has so many election timeouts to do everything. */
const MOST_ELECTIONS = 50;
/** Terms that may pass until it has a leader. */
const MOST_TERMS = 3;
/** Messages that a member may send in one heartbeat interval, and for one entry that it lacks. */
const MOST_PER_TICK = 100;
const MOST_PER_ENTRY = 8;

export function recover(
  simulation: RaftSimulation,
  members: readonly RaftMember[],
  choose: (bound: number) => number,
): void {
  const { engine, checker, knobs, network } = simulation;
  const chosen = chooseQuorum(simulation, members, choose);
  const healed = members.filter((member) => chosen.has(member.id));
  engine.tell(() => `faults end; members ${[...chosen].join(' ')} go on`);
  for (const member of members) {
    if (!chosen.has(member.id)) simulation.crash(member.number);
  }
  for (const member of healed) {
    member.writer.slowDown(0, 0);
    member.resume();
    if (!member.isUp) simulation.start(member.number);
  }

  const begunAt = engine.now;
  const sentBefore = network.sent;
  const lagging = Math.min(...healed.map(({ appliedIndex }) => appliedIndex));
  const target = checker.committedIndex + 1;
  const termBefore = newestTerm(healed);
  const until = begunAt + MOST_ELECTIONS * knobs.electionTicks * TICK_US;
  /** What was committed when there was something new: under load nobody ever has applied everything. */
  let goal: number | undefined;
  const isDone = () => {
    if (checker.committedIndex < target) return false;
    goal ??= checker.committedIndex;
    const least = goal;
    return healed.every(
      ({ id, appliedIndex }) => appliedIndex >= least || !isMember(checker.configuration, id),
    );
  };
  while (!isDone()) hold(engine.step(until), 21, () => describe(healed));

  const terms = newestTerm(healed) - termBefore;
  // Without pre-vote and check-quorum, which ship, members may depose each other for a while.
  const isSettledSoon = knobs.preVote && knobs.checkQuorum;
  hold(!isSettledSoon || terms <= MOST_TERMS, 21, () => `a leader took ${terms} terms to elect`);
  const ticks = 10 + (engine.now - begunAt) / TICK_US;
  const sent = network.sent - sentBefore;
  const most =
    healed.length * (ticks * MOST_PER_TICK + (checker.committedIndex - lagging) * MOST_PER_ENTRY);
  // What comes out of order is asked for again and again.
  hold(
    !simulation.isInOrder || sent <= most,
    21,
    () => `${sent} messages were sent in ${ticks} ticks`,
  );
}

/**
 * A quorum of what is in force, of what will be when everything committed or begun is applied, and
 * of what those that are healed still believe to be in force.
 */
function chooseQuorum(
  { checker }: RaftSimulation,
  members: readonly RaftMember[],
  choose: (bound: number) => number,
): ReadonlySet<NodeId> {
  const chosen = new Set<NodeId>();
  const complete = (configuration: Configuration) => {
    const { voters, outgoing } = configuration;
    const candidates = [...new Set([...voters, ...outgoing])];
    while (!isQuorum(configuration, (voter) => chosen.has(voter))) {
      const [added] = candidates.splice(choose(candidates.length), 1);
      if (added !== undefined) chosen.add(added);
    }
  };
  let committed = checker.configuration;
  complete(committed);
  for (const { kind, data } of checker.committedAfter(checker.configurationIndex)) {
    if (kind !== 'configuration') continue;
    committed = configurationAfter(committed, data);
    complete(committed);
  }
  for (let before = 0; before < chosen.size; ) {
    before = chosen.size;
    for (const member of members) {
      if (!chosen.has(member.id)) continue;
      complete(member.configuration);
      complete(member.store.durable.configuration);
      const { log } = member.store;
      for (let index = checker.committedIndex + 1; index <= log.lastIndex; index += 1) {
        const entry = log.at(index);
        if (entry?.kind === 'configuration') complete(configurationAfter(committed, entry.data));
      }
    }
  }
  return new Set([...chosen].sort());
}

function isMember({ voters, outgoing, learners }: Configuration, id: NodeId): boolean {
  return voters.includes(id) || outgoing.includes(id) || learners.includes(id);
}

function newestTerm(members: readonly RaftMember[]): number {
  return Math.max(...members.map(({ raft }) => raft?.term ?? 0));
}

function describe(members: readonly RaftMember[]): string {
  const states = members.map(({ number, raft, appliedIndex, configuration }) =>
    raft === undefined
      ? `${number} down`
      : `${number} ${raft.role} term ${raft.term} applied ${appliedIndex} commit ${raft.commitIndex} last ${raft.lastIndex} voters ${configuration.voters}/${configuration.outgoing}`,
  );
  return `a healed quorum does not get on: ${states.join(', ')}`;
}
