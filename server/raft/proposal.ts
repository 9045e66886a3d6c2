/**
 * Proposals: appended by the leader, forwarded to it by a follower.
 *
 * Invariant O1: a forwarded request is taken at most once. Only the leader of the term in which it
 * was sent takes it, that leader never leads this term again should it restart, and it takes requests
 * of one sender in rising order only.
 * Invariant O2: a request is refused only by the leader that could have taken it, and then never
 * taken; so a refusal is certain. Whoever gets neither entry nor refusal learns from the first entry
 * of a later term that nothing will come of it.
 * Invariant O3: a change of the members is appended only when no other is unapplied, and only after an
 * entry of the leader's own term is committed: until then another leader's change may be hidden in
 * the logs of others, and two majorities that do not know of each other could form.
 */
import { isJoint } from './configuration.ts';
import { entryBytes } from './log.ts';
import {
  NO_NODE,
  type Proposal,
  type ProposalOutcome,
  type ProposalRefusal,
  type Propose,
} from './message.ts';
import type { Follower, Leader, State } from './state.ts';

/** Senders remembered in one term; more than one restart a second for a quarter of an hour. */
const REMEMBERED_SENDERS = 1024;

export function propose(
  state: State,
  leader: Leader,
  proposals: readonly Proposal[],
): ProposalOutcome {
  const reason = refusal(state, leader, proposals);
  if (reason !== undefined) return { accepted: false, reason };
  const firstIndex = state.log.lastIndex + 1;
  append(state, leader, proposals);
  return { accepted: true, kind: 'appended', firstIndex, term: state.term };
}

/** Changes of the members are not forwarded: only who leads can judge whether one is due. */
export function forward(
  state: State,
  follower: Follower,
  proposals: readonly Proposal[],
): ProposalOutcome {
  if (follower.leader === NO_NODE || proposals.some(isChange)) {
    return { accepted: false, reason: 'not-leader' };
  }
  state.forwardRequest += 1;
  const { id: from, term, incarnation, forwardRequest: request } = state;
  state.send({ kind: 'propose', from, to: follower.leader, term, incarnation, request, proposals });
  return { accepted: true, kind: 'forwarded', request, term };
}

export function onPropose(state: State, leader: Leader, message: Propose): void {
  const { from: to, incarnation, request, proposals } = message;
  if (request <= (leader.forwarded.get(incarnation) ?? 0)) return;
  leader.forwarded.delete(incarnation);
  leader.forwarded.set(incarnation, request);
  const [oldest] = leader.forwarded.keys();
  if (leader.forwarded.size > REMEMBERED_SENDERS && oldest !== undefined) {
    leader.forwarded.delete(oldest);
  }
  const outcome: ProposalOutcome = proposals.some(isChange)
    ? { accepted: false, reason: 'not-leader' }
    : propose(state, leader, proposals);
  if (outcome.accepted) return;
  const { id: from, term } = state;
  const { reason } = outcome;
  state.send({ kind: 'propose-refused', from, to, term, incarnation, request, reason });
}

/** Adds entries of the leader's term. */
export function append(state: State, leader: Leader, proposals: readonly Proposal[]): void {
  const firstIndex = state.log.lastIndex + 1;
  state.log.append(
    proposals.map(({ kind, data }, offset) => ({
      index: firstIndex + offset,
      term: state.term,
      kind,
      data,
    })),
  );
  for (const proposal of proposals) leader.uncommittedBytes += entryBytes(proposal);
  state.unsent = true;
}

/** Why a change of the members has to wait; undefined when it has not (invariant O3). */
export function changeRefusal(
  state: State,
  leader: Leader,
  kind: 'change' | 'leave',
): ProposalRefusal | undefined {
  if (state.log.commit < leader.firstIndex) return 'not-ready';
  if (state.isChanging) return 'change-pending';
  if (kind === 'leave') return isJoint(state.configuration) ? undefined : 'not-ready';
  return isJoint(state.configuration) ? 'change-pending' : undefined;
}

function refusal(
  state: State,
  leader: Leader,
  proposals: readonly Proposal[],
): ProposalRefusal | undefined {
  if (leader.transfer !== undefined) return 'transferring';
  const [change, ...others] = proposals.filter(isChange);
  if (others.length > 0) return 'change-pending';
  if (change !== undefined) {
    const reason = changeRefusal(state, leader, change.data.length === 0 ? 'leave' : 'change');
    if (reason !== undefined) return reason;
  }
  const bytes = proposals.reduce((sum, proposal) => sum + entryBytes(proposal), 0);
  const isFull = leader.uncommittedBytes + bytes > state.limits.uncommittedBytes;
  // With nothing waiting even the largest proposal must pass.
  return isFull && leader.uncommittedBytes > 0 ? 'overloaded' : undefined;
}

function isChange(proposal: Proposal): boolean {
  return proposal.kind === 'configuration';
}
