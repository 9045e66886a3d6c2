/**
 * Campaigning. A pre-candidate asks whether it would be voted for, without touching anybody's term;
 * a candidate has raised its own term and asks for votes.
 *
 * Invariant C1: a candidate's requests leave, and its own vote counts, only after term, vote and log
 * are durable. A candidate that restarts would otherwise campaign again in the same term, perhaps
 * with a shorter log, and count the votes that were given to the longer one.
 */
import { becomeLeader } from './leader.ts';
import {
  type Message,
  NO_NODE,
  type NodeId,
  type PreVoteResponse,
  type VoteResponse,
} from './message.ts';
import { tally } from './quorum.ts';
import type { Candidate, PreCandidate, State } from './state.ts';

type AnyVoteResponse = PreVoteResponse | VoteResponse;

/** Tries to become the leader, if it may. */
export function campaign(state: State): void {
  if (state.role.kind === 'leader' || !state.mayCampaign) return;
  if (state.config.preVote) askWhetherElectable(state);
  else campaignForVotes(state, false);
}

/** `transfer`: the leader asked for it, so members that hear the leader are to answer too. */
export function campaignForVotes(state: State, transfer: boolean): void {
  if (!state.mayCampaign) return;
  const { index: lastIndex, term: lastTerm } = state.last;
  state.enterTerm(state.term + 1);
  state.voteFor(state.id);
  state.changeRole({
    kind: 'candidate',
    votes: new Map(),
    electionElapsed: 0,
    electionTimeout: state.newElectionTimeout(),
  });
  const { id: from, term } = state;
  for (const to of state.otherVoters) {
    state.sendWhenStored({ kind: 'vote', from, to, term, lastIndex, lastTerm, transfer });
  }
}

export function tickCandidate(state: State, candidate: PreCandidate | Candidate): void {
  // While the own vote is being written nobody has been asked: a slow disk is no lost election.
  if (candidate.kind === 'candidate' && !candidate.votes.has(state.id)) return;
  candidate.electionElapsed += 1;
  if (candidate.electionElapsed >= candidate.electionTimeout) campaign(state);
}

/**
 * The voter says what is committed, and this log holds that very entry. A change of the members among
 * it has to be applied first: the campaign ends.
 */
export function learnCommit(state: State, { commitIndex, commitTerm }: AnyVoteResponse): void {
  const { log, role } = state;
  const isNews = commitIndex > log.commit && log.matches({ index: commitIndex, term: commitTerm });
  if (role.kind === 'leader' || !isNews) return;
  state.commitTo(commitIndex);
  if (role.kind !== 'follower' && state.isBehindChange) state.awaitElection();
}

export function stepPreCandidate(state: State, role: PreCandidate, message: Message): void {
  if (message.kind !== 'pre-vote-response') return;
  const isForThisCampaign = message.term === state.term + (message.granted ? 1 : 0);
  if (!isForThisCampaign) return;
  role.votes.set(message.from, message.granted);
  concludePreVote(state, role);
}

export function stepCandidate(state: State, role: Candidate, message: Message): void {
  if (message.kind !== 'vote-response') return;
  role.votes.set(message.from, message.granted);
  concludeVote(state, role);
}

/** Something of the candidate's own became durable, perhaps its vote. */
export function candidateStored(state: State, role: Candidate): void {
  const { term, votedFor } = state.durability.durable;
  if (term !== state.term || votedFor !== state.id) return;
  role.votes.set(state.id, true);
  concludeVote(state, role);
}

function askWhetherElectable(state: State): void {
  const role: PreCandidate = {
    kind: 'pre-candidate',
    votes: new Map([[state.id, true]]),
    electionElapsed: 0,
    electionTimeout: state.newElectionTimeout(),
  };
  state.changeRole(role);
  for (const to of state.otherVoters) askForPreVote(state, to);
  concludePreVote(state, role);
}

export function askForPreVote(state: State, to: NodeId): void {
  const { index: lastIndex, term: lastTerm } = state.last;
  const { id: from, term } = state;
  state.send({ kind: 'pre-vote', from, to, term: term + 1, lastIndex, lastTerm });
}

function concludePreVote(state: State, role: PreCandidate): void {
  const result = conclusion(state, role.votes);
  if (result === 'won') campaignForVotes(state, false);
  else if (result === 'lost') state.becomeFollower(state.term, NO_NODE);
}

/** A lost vote was split, most likely: the next attempt settles who goes first by pre-votes. */
function concludeVote(state: State, role: Candidate): void {
  const result = conclusion(state, role.votes);
  if (result === 'won') becomeLeader(state);
  else if (result === 'lost' && state.config.preVote) state.awaitElection();
  else if (result === 'lost') state.becomeFollower(state.term, NO_NODE);
}

/** After a refusal nothing is hoped for from members that cannot be reached. */
function conclusion(state: State, votes: ReadonlyMap<NodeId, boolean>): 'won' | 'lost' | 'open' {
  const result = tally(state.configuration, votes);
  const isRefused = [...votes.values()].includes(false);
  if (result !== 'open' || !isRefused) return result;
  const silent = [...state.silent].map((node) => [node, false] as const);
  return tally(state.configuration, new Map([...silent, ...votes]));
}
