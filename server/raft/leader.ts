/**
 * The leader: takes proposals, keeps its peers' logs equal to its own, confirms reads, and steps
 * down when it cannot reach a quorum or a member of a newer term is heard of.
 *
 * It sends entries while its own disk is still writing them; `replication.ts` says why that is safe.
 */
import { entryBytes } from './log.ts';
import { leaveWhenDue } from './membership.ts';
import { type Message, NO_NODE, type NodeId } from './message.ts';
import { unknownProgress, waitForHeartbeat } from './progress.ts';
import { append, onPropose } from './proposal.ts';
import { isQuorum } from './quorum.ts';
import { confirmRounds, onReadIndex, startRound } from './read-index.ts';
import {
  onAppendAccepted,
  onAppendRejected,
  onHeartbeatResponse,
  sendAppends,
  sendHeartbeats,
} from './replication.ts';
import type { Leader, State } from './state.ts';
import { handOver, tickTransfer } from './transfer.ts';

export function becomeLeader(state: State): void {
  const { log } = state;
  const leader: Leader = {
    kind: 'leader',
    peers: new Map(state.peers.map((peer) => [peer, unknownProgress(log.lastIndex)])),
    firstIndex: log.lastIndex + 1,
    heartbeatElapsed: 0,
    quorumElapsed: 0,
    transfer: undefined,
    uncommittedBytes: 0,
    forwarded: new Map(),
    reads: { waiting: [], rounds: [], context: 0 },
  };
  const inherited = log.slice(log.commit + 1, log.lastIndex, Number.POSITIVE_INFINITY);
  for (const entry of inherited) leader.uncommittedBytes += entryBytes(entry);
  state.changeRole(leader);
  append(state, leader, [{ kind: 'no-op', data: new Uint8Array(0) }]);
}

export function tickLeader(state: State, leader: Leader): void {
  const { electionTicks, heartbeatTicks, checkQuorum } = state.config;

  tickTransfer(state, leader);
  if (!state.isVoter && leader.transfer === undefined) {
    state.awaitElection();
    return;
  }

  leader.quorumElapsed += 1;
  if (leader.quorumElapsed >= electionTicks) {
    leader.quorumElapsed = 0;
    const hears = (voter: NodeId) => voter === state.id || leader.peers.get(voter)?.active === true;
    if (checkQuorum && !isQuorum(state.configuration, hears)) {
      state.becomeFollower(state.term, NO_NODE);
      return;
    }
    for (const progress of leader.peers.values()) progress.active = false;
  }

  leader.heartbeatElapsed += 1;
  if (leader.heartbeatElapsed >= heartbeatTicks) {
    leader.heartbeatElapsed = 0;
    beat(state, leader);
  }
}

export function stepLeader(state: State, leader: Leader, message: Message): void {
  switch (message.kind) {
    case 'append-accepted':
      onAppendAccepted(state, leader, message);
      return;
    case 'append-rejected':
      onAppendRejected(state, leader, message);
      return;
    case 'heartbeat-response':
      onHeartbeatResponse(state, leader, message);
      confirmRounds(state, leader);
      return;
    case 'read-index':
      onReadIndex(state, leader, message);
      return;
    case 'propose':
      onPropose(state, leader, message);
      return;
    default:
      // Late answers to the election, and messages meant for the follower it was.
      return;
  }
}

/** What was sent to the peer may be lost, and sending more is no use before it is heard again. */
export function peerUnreachable(leader: Leader, peer: NodeId): void {
  const progress = leader.peers.get(peer);
  if (progress?.flow.kind !== 'replicate') return;
  progress.next = progress.match + 1;
  waitForHeartbeat(progress);
}

/** Works out what can be sent now. */
export function flushLeader(state: State, leader: Leader): void {
  leaveWhenDue(state, leader);
  if (leader.reads.rounds.length === 0) startRound(state, leader);
  sendAppends(state, leader);
}

function beat(state: State, leader: Leader): void {
  // A hand-over that got lost is repeated; the target ignores it once it is in the next term.
  handOver(state, leader);
  for (const progress of leader.peers.values()) progress.sentAtHeartbeat = progress.next - 1;
  // Reads do not wait longer than this for a round whose messages got lost: they start another.
  const { context } = leader.reads;
  startRound(state, leader);
  if (leader.reads.context === context) sendHeartbeats(state, leader);
}
