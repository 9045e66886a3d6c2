/**
 * The leader's traffic: appends, heartbeats, what the answers to them mean, and the commit index.
 *
 * Handlers only note what they learned; `sendAppends` works out, once per `ready`, what each peer
 * may get, so that proposals made in one turn travel together.
 *
 * Invariant R1: an entry is committed by counting only if it is of the leader's own term; earlier
 * ones are committed by being below it (Raft section 5.4.2, figure 8).
 * Invariant R2: the leader counts itself like anybody else, by what is durable on its disk. That is
 * why it may send entries before its own flush: should it crash and lose them, it never counted
 * itself, and as its vote for this term is durable it cannot lead the same term again and give their
 * indexes to other entries.
 */
import { entryBytes } from './log.ts';
import type { AppendAccepted, AppendRejected, HeartbeatResponse, NodeId } from './message.ts';
import { accepted, hasRoom, type Progress, rejected, sent } from './progress.ts';
import { quorumValue } from './quorum.ts';
import { needSnapshot } from './snapshot.ts';
import type { Leader, State } from './state.ts';

/** Sends every peer what it may get now. */
export function sendAppends(state: State, leader: Leader): void {
  for (const [to, progress] of leader.peers) {
    if (progress.flow.kind !== 'replicate') {
      if (hasRoom(progress, state.limits)) sendAppend(state, to, progress, 'entries');
      continue;
    }
    let isServed = true;
    while (isServed && progress.next <= state.log.lastIndex && hasRoom(progress, state.limits)) {
      isServed = sendAppend(state, to, progress, 'entries');
    }
    if (!isServed) continue;
    const usableCommit = Math.min(state.log.commit, progress.next - 1);
    if (progress.doubtful) sendAppend(state, to, progress, 'question');
    else if (usableCommit > progress.sentCommit) sendAppend(state, to, progress, 'commit');
  }
}

export function sendHeartbeats(state: State, leader: Leader): void {
  for (const [to, progress] of leader.peers) {
    state.send({
      kind: 'heartbeat',
      from: state.id,
      to,
      term: state.term,
      commit: Math.min(progress.match, state.log.commit),
      context: leader.reads.context,
    });
  }
}

/** Commits what a quorum holds (invariants R1, R2). */
export function advanceCommit(state: State, leader: Leader): void {
  const index = quorumValue(state.configuration, (voter) =>
    voter === state.id ? state.durability.durableIndex : (leader.peers.get(voter)?.match ?? 0),
  );
  if (index <= state.log.commit || state.log.term(index) !== state.term) return;
  state.commitTo(index);
  state.unsent = true;
}

export function onAppendAccepted(state: State, leader: Leader, message: AppendAccepted): void {
  const progress = leader.peers.get(message.from);
  // No member of this term can hold more than its leader sent.
  if (progress === undefined || message.matchIndex > state.log.lastIndex) return;
  progress.active = true;
  state.unsent = true;
  if (accepted(progress, message.matchIndex, state.log.firstIndex)) advanceCommit(state, leader);
}

export function onAppendRejected(state: State, leader: Leader, message: AppendRejected): void {
  const progress = leader.peers.get(message.from);
  if (progress === undefined) return;
  progress.active = true;
  const { rejectedIndex, hintIndex, hintTerm } = message;
  const agreedIndex =
    hintTerm > 0
      ? state.log.lastPositionWithin({ index: hintIndex, term: hintTerm }).index
      : hintIndex;
  if (rejected(progress, rejectedIndex, agreedIndex)) state.unsent = true;
}

export function onHeartbeatResponse(
  state: State,
  leader: Leader,
  message: HeartbeatResponse,
): void {
  const progress = leader.peers.get(message.from);
  if (progress === undefined || message.context > leader.reads.context) return;
  progress.active = true;
  progress.readContext = Math.max(progress.readContext, message.context);
  if (progress.flow.kind === 'probe') {
    progress.flow.awaiting = false;
    state.unsent = true;
  }
  if (progress.flow.kind !== 'replicate') return;
  // What was sent did not arrive, or the acknowledgement did not, or the peer restarted, or its disk
  // is slow: the answer to another append will tell.
  const expected = Math.min(progress.sentAtHeartbeat, progress.next - 1);
  if (message.matchIndex < expected || progress.match < expected) {
    progress.doubtful = true;
    progress.sentCommit = Math.min(progress.sentCommit, progress.match);
    state.unsent = true;
  }
}

/**
 * Sends entries, or without any: asks whether the peer has what comes before (commit 0), or says what
 * is committed, which needs no answer.
 *
 * @returns false when what the peer needs is no longer here.
 */
function sendAppend(
  state: State,
  to: NodeId,
  progress: Progress,
  purpose: 'entries' | 'question' | 'commit',
): boolean {
  const { log, limits } = state;
  const prevIndex = progress.next - 1;
  const prevTerm = log.term(prevIndex);
  if (prevTerm === undefined) {
    needSnapshot(state, to, progress);
    return false;
  }
  const entries =
    purpose === 'entries' ? log.slice(progress.next, log.lastIndex, limits.appendBytes) : [];
  const lastIndex = prevIndex + entries.length;
  const bytes = entries.reduce((sum, entry) => sum + entryBytes(entry), 0);
  const commit = entries.length === 0 && purpose !== 'commit' ? 0 : log.commit;
  progress.sentCommit = Math.max(progress.sentCommit, Math.min(commit, lastIndex));
  if (purpose !== 'commit') sent(progress, lastIndex, bytes);
  state.send({
    kind: 'append',
    from: state.id,
    to,
    term: state.term,
    prevIndex,
    prevTerm,
    entries,
    commit,
  });
  return true;
}
