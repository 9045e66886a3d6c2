/**
 * Handing leadership over: the target is told to campaign as soon as it has the whole log, and that
 * grows no more meanwhile. Members that hear the leader well answer this one election all the same.
 *
 * A leader that has to go (it was removed, or its disk does not answer) hands over too, for the
 * others would otherwise notice its silence only after an election timeout. When it was removed it
 * leads on until another has taken over, or an election timeout has passed: if it fell silent at
 * once, those that have not heard yet that its removal is committed would still need its vote.
 */
import type { NodeId, TransferOutcome } from './message.ts';
import type { Leader, State } from './state.ts';

/** Proposals are refused until the target leads or an election timeout has passed. */
export function startTransfer(state: State, leader: Leader, to: NodeId): TransferOutcome {
  if (!canLead(state, leader, to)) return 'bad-transferee';
  leader.transfer = { to, elapsed: 0 };
  handOver(state, leader);
  return 'started';
}

export function tickTransfer(state: State, leader: Leader): void {
  if (leader.transfer === undefined) return;
  leader.transfer.elapsed += 1;
  if (leader.transfer.elapsed < state.config.electionTicks) return;
  leader.transfer = undefined;
  state.unsent = true;
}

/** Tells the member that is to lead next; said again with every heartbeat, until it has worked. */
export function handOver(state: State, leader: Leader): void {
  const to = leader.transfer?.to;
  if (to !== undefined) tell(state, to, state.log.lastIndex);
}

/** After a change of the members: a target that is none any more is given up. */
export function reviewTransfer(state: State, leader: Leader): void {
  const { transfer } = leader;
  if (transfer !== undefined && !canLead(state, leader, transfer.to)) leader.transfer = undefined;
  if (state.isVoter || leader.transfer !== undefined) return;
  const to = successor(state, leader);
  if (to !== undefined) startTransfer(state, leader, to);
}

/** The own disk does not answer: whoever holds the most is told to campaign, and this one follows. */
export function resign(state: State, leader: Leader): void {
  const to = successor(state, leader);
  if (to !== undefined) tell(state, to, leader.peers.get(to)?.match ?? 0);
  state.awaitElection();
}

function tell(state: State, to: NodeId, lastIndex: number): void {
  const { id: from, term } = state;
  state.send({ kind: 'timeout-now', from, to, term, lastIndex });
}

/** The voter that holds the most, the first of several. */
function successor(state: State, leader: Leader): NodeId | undefined {
  let best: { readonly to: NodeId; readonly match: number } | undefined;
  for (const [to, { match }] of leader.peers) {
    if (canLead(state, leader, to) && match > (best?.match ?? 0)) best = { to, match };
  }
  return best?.to;
}

function canLead(state: State, leader: Leader, node: NodeId): boolean {
  return leader.peers.has(node) && state.configuration.voters.includes(node);
}
