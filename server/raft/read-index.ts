/**
 * Linearizable reads without writing to the log (Raft dissertation, section 6.4).
 *
 * The leader notes its commit index, then asks a quorum whether it still leads; with that, every
 * write acknowledged before the read began is at or below the noted index. One round serves all
 * reads that were waiting when it started. Reads that arrive while it runs share the next one.
 *
 * A follower asks the leader for an index on behalf of its own reads.
 *
 * Invariant I1: a round's context is used by that round only, and only answers sent after the round
 * began carry it. Contexts rise, so an answer confirms its round and all before. They begin anew in
 * each term, and answers of another term are not looked at.
 * Invariant I2: no round before an entry of the own term is committed: until then the leader does
 * not know what its predecessors committed.
 */
import { NO_NODE, type ReadIndex, type ReadIndexResponse } from './message.ts';
import { quorumValue } from './quorum.ts';
import { sendHeartbeats } from './replication.ts';
import type { Follower, Leader, Reader, State } from './state.ts';

/** @returns false when no leader is known. */
export function read(state: State, id: number): boolean {
  const { role } = state;
  if (role.kind === 'leader') {
    addReader(state, role, { kind: 'local', id });
    return true;
  }
  if (role.kind !== 'follower' || role.leader === NO_NODE) return false;
  role.reads.waiting.push(id);
  state.unsent = true;
  return true;
}

export function onReadIndex(state: State, leader: Leader, message: ReadIndex): void {
  const { from, incarnation, request } = message;
  addReader(state, leader, { kind: 'peer', from, incarnation, request });
}

/** Starts a round for all waiting readers. */
export function startRound(state: State, leader: Leader): void {
  const { reads } = leader;
  if (reads.waiting.length === 0 || state.log.commit < leader.firstIndex) return;
  reads.context += 1;
  reads.rounds.push({ context: reads.context, index: state.log.commit, readers: reads.waiting });
  reads.waiting = [];
  sendHeartbeats(state, leader);
  confirmRounds(state, leader);
}

/** Answers the readers of every round that a quorum has confirmed. */
export function confirmRounds(state: State, leader: Leader): void {
  const { reads } = leader;
  const confirmed = quorumValue(state.configuration, (voter) =>
    voter === state.id ? reads.context : (leader.peers.get(voter)?.readContext ?? 0),
  );
  while (reads.rounds[0] !== undefined && reads.rounds[0].context <= confirmed) {
    const { index, readers } = reads.rounds[0];
    reads.rounds.shift();
    for (const reader of readers) answer(state, reader, index);
    state.unsent = true;
  }
}

/** Asks the leader for an index if reads wait and no request is on its way. */
export function forwardReads(state: State, follower: Follower): void {
  const { reads } = follower;
  if (reads.sent !== undefined || reads.waiting.length === 0) return;
  state.readRequest += 1;
  reads.sent = { request: state.readRequest, ids: reads.waiting, elapsed: 0 };
  reads.waiting = [];
  state.send({
    kind: 'read-index',
    from: state.id,
    to: follower.leader,
    term: state.term,
    incarnation: state.incarnation,
    request: state.readRequest,
  });
}

/** Asks again, under a new number, when a request or its answer seems lost. */
export function tickForwardedReads(state: State, follower: Follower): void {
  const { reads } = follower;
  if (reads.sent === undefined) return;
  reads.sent.elapsed += 1;
  if (reads.sent.elapsed < state.config.heartbeatTicks * 2) return;
  reads.waiting = [...reads.sent.ids, ...reads.waiting];
  reads.sent = undefined;
  state.unsent = true;
}

export function onReadIndexResponse(
  state: State,
  follower: Follower,
  message: ReadIndexResponse,
): void {
  const { sent } = follower.reads;
  if (message.incarnation !== state.incarnation || message.request !== sent?.request) return;
  for (const id of sent.ids) state.confirmedReads.push({ id, index: message.index });
  follower.reads.sent = undefined;
  state.unsent = true;
}

function addReader(state: State, leader: Leader, reader: Reader): void {
  leader.reads.waiting.push(reader);
  state.unsent = true;
}

function answer(state: State, reader: Reader, index: number): void {
  if (reader.kind === 'local') {
    state.confirmedReads.push({ id: reader.id, index });
    return;
  }
  state.send({
    kind: 'read-index-response',
    from: state.id,
    to: reader.from,
    term: state.term,
    incarnation: reader.incarnation,
    request: reader.request,
    index,
  });
}
