/**
 * Snapshots, for peers that need entries which were released.
 *
 * Only the position travels through here. The leader reports whom it cannot serve from its log, the
 * host carries the state over and says how that ended. Meanwhile the peer gets heartbeats only.
 * Another source may help it as well: any confirmed match from which the log can go on ends the wait.
 */
import { NO_NODE, type NodeId, type Snapshot, type SnapshotOutcome } from './message.ts';
import { type Progress, probeFrom, waitForHeartbeat } from './progress.ts';
import type { Leader, State } from './state.ts';

/** The peer needs `progress.next`, which is not here. */
export function needSnapshot(state: State, to: NodeId, progress: Progress): void {
  progress.next = progress.match + 1;
  progress.flow = { kind: 'snapshot' };
  progress.doubtful = false;
  state.needsSnapshot.push({ to, nextIndex: progress.next });
}

/** A failed one is asked for again after the next sign of life. */
export function snapshotReported(leader: Leader, to: NodeId, outcome: SnapshotOutcome): void {
  const progress = leader.peers.get(to);
  if (progress?.flow.kind !== 'snapshot') return;
  probeFrom(progress, outcome.sent ? outcome.index + 1 : progress.match + 1);
  waitForHeartbeat(progress);
}

/**
 * Takes the place of log and state, unless the log is that far already: then it only says what is
 * committed. Whatever else the log holds conflicts with it, or comes before it. It may be of any term
 * and from anybody, for the leader of this term, whoever that is, holds all that is committed.
 */
export function onSnapshot(state: State, message: Snapshot): void {
  const { log, durability, id: from, term } = state;
  const { index, indexTerm, configuration } = message;
  const position = { index, term: indexTerm };
  if (state.role.kind === 'leader') return;
  if (index > log.commit) {
    // A change of the members may be among what is news here: nobody campaigns past that.
    if (state.role.kind !== 'follower') state.becomeFollower(term, NO_NODE);
    if (log.matches(position)) {
      state.commitTo(index);
    } else {
      durability.restart({ ...position, configuration }, log.commit);
      log.restart(position);
    }
  }
  const matchIndex = log.commit;
  let to = message.from;
  if (state.role.kind === 'follower') {
    state.role.matchIndex = Math.max(state.role.matchIndex, matchIndex);
    if (state.role.leader !== NO_NODE) to = state.role.leader;
  }
  state.sendWhenStored({ kind: 'append-accepted', from, to, term, matchIndex });
}
