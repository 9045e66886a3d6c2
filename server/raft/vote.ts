/**
 * Answering candidates, the same in every role.
 *
 * A vote is given once per term, to a log at least as up to date as this one (Raft section 5.4.1),
 * and leaves this member only after it is durable. A pre-vote promises nothing and changes nothing.
 */
import { askForPreVote, campaign } from './candidate.ts';
import { NO_NODE, type PreVote, type Vote } from './message.ts';
import type { State } from './state.ts';

/**
 * Whether this member hears a leader well enough to ignore an election: it is one, or heard one
 * within the shortest election timeout (Raft dissertation, sections 4.2.3 and 9.6).
 */
export function hearsLeader(state: State): boolean {
  const { role } = state;
  if (role.kind === 'leader') return true;
  return (
    role.kind === 'follower' &&
    role.leader !== NO_NODE &&
    role.electionElapsed < state.config.electionTicks
  );
}

/**
 * `request.term` is above this member's own or the answer is no.
 *
 * When a leader dies, all connections to it break at once and all members ask at once. Then it is
 * settled here who goes first, without a timer: the longer log, of equal ones the lower id. Whoever
 * goes first refuses the others, asks them again in case they still heard the leader when it asked
 * before, and gets their word. For one heartbeat only: if it cannot win, another shall.
 */
export function answerPreVote(state: State, request: PreVote): void {
  const { role, last } = state;
  const isNewer = request.term > state.term;
  const isCovered = state.log.isCoveredBy({ index: request.lastIndex, term: request.lastTerm });
  const isEqual = request.lastIndex === last.index && request.lastTerm === last.term;
  const goesFirst = isEqual && state.id < request.from;
  const insists =
    role.kind === 'pre-candidate' && role.electionElapsed < state.config.heartbeatTicks;
  const granted = isNewer && isCovered && !(goesFirst && insists);
  if (granted && !goesFirst && role.kind === 'pre-candidate') state.awaitElection();
  state.send({
    kind: 'pre-vote-response',
    from: state.id,
    to: request.from,
    term: granted ? request.term : state.term,
    granted,
    ...knownCommit(state),
  });
  if (granted || !isNewer || !state.config.preVote) return;
  if (role.kind === 'pre-candidate') askForPreVote(state, request.from);
  else if (role.kind === 'follower') campaign(state);
}

/** The request's term is this member's own by now, or a past one. */
export function answerVote(state: State, request: Vote): void {
  const { role } = state;
  const isFree = state.votedFor === NO_NODE && state.leader === NO_NODE;
  const granted =
    request.term === state.term &&
    (isFree || state.votedFor === request.from) &&
    state.log.isCoveredBy({ index: request.lastIndex, term: request.lastTerm });
  if (granted) {
    state.voteFor(request.from);
    // Whoever gave its vote lets the candidate win first.
    if (role.kind === 'follower') {
      role.electionElapsed = 0;
      role.electionTimeout = state.newElectionTimeout();
    }
  }
  state.sendWhenStored({
    kind: 'vote-response',
    from: state.id,
    to: request.from,
    term: state.term,
    granted,
    ...knownCommit(state),
  });
}

function knownCommit({ log }: State): {
  readonly commitIndex: number;
  readonly commitTerm: number;
} {
  return { commitIndex: log.commit, commitTerm: log.term(log.commit) ?? 0 };
}
