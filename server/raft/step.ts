/**
 * Sorts messages by term and role. Invariant T1: a role's handler sees messages of its own term only,
 * and in that term appends and heartbeats from one leader only.
 */
import { assert, unreachable } from '../assert.ts';
import { learnCommit, stepCandidate, stepPreCandidate } from './candidate.ts';
import { stepFollower } from './follower.ts';
import { stepLeader } from './leader.ts';
import { type Message, NO_NODE, type NodeId, type ProposeRefused } from './message.ts';
import { onSnapshot } from './snapshot.ts';
import type { State } from './state.ts';
import { answerPreVote, answerVote, hearsLeader } from './vote.ts';

export function step(state: State, message: Message): void {
  if (message.to !== state.id || message.from === state.id) return;
  state.silent.delete(message.from);
  if (isUnwelcomeElection(state, message)) return;

  if (message.term > state.term && bindsToItsTerm(message)) {
    state.becomeFollower(message.term, isFromLeader(message) ? message.from : NO_NODE);
  }

  if (message.kind === 'pre-vote-response' || message.kind === 'vote-response') {
    learnCommit(state, message);
  }
  // Candidates get an answer whatever their term is: a refusal tells them the newer one.
  if (message.kind === 'pre-vote') answerPreVote(state, message);
  else if (message.kind === 'vote') answerVote(state, message);
  // What a leader refused stays refused, whatever has become of its term.
  else if (message.kind === 'propose-refused') onProposeRefused(state, message);
  // What is committed stays committed: whoever has begun to send it may have lost the lead since.
  else if (message.kind === 'snapshot') onSnapshot(state, message);
  else if (message.term < state.term) answerPastTerm(state, message);
  else stepRole(state, message);
}

/** An election that would only disturb: the leader is well, as seen from here. */
function isUnwelcomeElection(state: State, message: Message): boolean {
  if (message.term <= state.term || !hearsLeader(state)) return false;
  if (message.kind === 'pre-vote') return true;
  return message.kind === 'vote' && state.config.checkQuorum && !message.transfer;
}

/** Whether receiving it means that its term has begun; asking about a term does not begin it. */
function bindsToItsTerm(message: Message): boolean {
  if (message.kind === 'pre-vote') return false;
  return message.kind !== 'pre-vote-response' || !message.granted;
}

function isFromLeader({ kind }: Message): boolean {
  return kind === 'append' || kind === 'heartbeat';
}

function onProposeRefused(state: State, { incarnation, request, reason }: ProposeRefused): void {
  if (incarnation === state.incarnation) state.refused.push({ request, reason });
}

/** A leader of a past term, or one that cannot know of the newer one, is told. */
function answerPastTerm(state: State, message: Message): void {
  const { id: from, term } = state;
  const to = message.from;
  if (message.kind === 'append') {
    const rejectedIndex = message.prevIndex;
    state.send({
      kind: 'append-rejected',
      from,
      to,
      term,
      rejectedIndex,
      hintIndex: 0,
      hintTerm: 0,
    });
  } else if (message.kind === 'heartbeat') {
    const { context } = message;
    state.send({ kind: 'heartbeat-response', from, to, term, context, matchIndex: 0 });
  }
}

function stepRole(state: State, message: Message): void {
  if (isFromLeader(message)) recognize(state, message.from);
  const { role } = state;
  switch (role.kind) {
    case 'follower':
      stepFollower(state, role, message);
      return;
    case 'pre-candidate':
      stepPreCandidate(state, role, message);
      return;
    case 'candidate':
      stepCandidate(state, role, message);
      return;
    case 'leader':
      stepLeader(state, role, message);
      return;
    default:
      unreachable(role);
  }
}

/** Follows the leader of this term. */
function recognize(state: State, leader: NodeId): void {
  if (state.leader === leader) return;
  assert(state.leader === NO_NODE, 'T1: there is one leader in a term');
  state.becomeFollower(state.term, leader);
}
