/**
 * The follower: takes the leader's entries, answers only for what is durable, and campaigns when the
 * leader has been silent for too long.
 *
 * Invariant F1: by the leader's word the commit index never passes the part of the log that was
 * compared with this leader's in this term; what lies beyond may be another leader's and about to be
 * replaced. Others say which very entry is committed (`learnCommit`, `onSnapshot`): it has to be here.
 */
import { campaign, campaignForVotes } from './candidate.ts';
import type { Append, Heartbeat, Message } from './message.ts';
import { forwardReads, onReadIndexResponse, tickForwardedReads } from './read-index.ts';
import type { Follower, State } from './state.ts';

export function tickFollower(state: State, follower: Follower): void {
  follower.electionElapsed += 1;
  const isAlone = state.isVoter && state.otherVoters.length === 0;
  if (isAlone || follower.electionElapsed >= follower.electionTimeout) {
    campaign(state);
    return;
  }
  tickForwardedReads(state, follower);
  forgetHandOver(state, follower);
}

/** The leader says it with every heartbeat while it means it. */
function forgetHandOver(state: State, follower: Follower): void {
  if (follower.heir === undefined) return;
  follower.heir.elapsed += 1;
  if (follower.heir.elapsed >= 2 * state.config.heartbeatTicks) follower.heir = undefined;
}

/** Messages of this term; appends and heartbeats are from `follower.leader`. */
export function stepFollower(state: State, follower: Follower, message: Message): void {
  switch (message.kind) {
    case 'append':
      follower.electionElapsed = 0;
      onAppend(state, follower, message);
      inherit(state, follower);
      return;
    case 'heartbeat':
      follower.electionElapsed = 0;
      onHeartbeat(state, follower, message);
      return;
    case 'timeout-now':
      if (message.from !== follower.leader || !(state.isVoter || state.isBehindChange)) return;
      follower.heir = { from: message.lastIndex, elapsed: 0 };
      inherit(state, follower);
      return;
    case 'read-index-response':
      onReadIndexResponse(state, follower, message);
      return;
    default:
      // Late answers to what it asked as a candidate or leader, and reads meant for a leader.
      return;
  }
}

/**
 * Takes over from a leader that handed over, as soon as the leader's log is here and a change of the
 * members in it is applied. It need not be durable yet: entries and candidacy share one flush.
 */
export function inherit(state: State, { heir, matchIndex }: Follower): void {
  if (heir === undefined || heir.from > matchIndex) return;
  if (state.mayCampaign) campaignForVotes(state, true);
}

/**
 * The connection to the leader broke: it is forgotten, so that another can be elected before the
 * election timeout. Members that still hear it do not answer, so a flapping link unseats nobody.
 * Without pre-vote it would, so nothing happens.
 */
export function leaderUnreachable(state: State): void {
  if (!state.config.preVote) return;
  state.awaitElection();
  campaign(state);
}

/** Works out what can be sent now. */
export function flushFollower(state: State, follower: Follower): void {
  forwardReads(state, follower);
}

function onAppend(state: State, follower: Follower, message: Append): void {
  const { log } = state;
  const { from: to, prevIndex, prevTerm, entries } = message;
  const { id: from, term } = state;

  // What is committed equals the leader's log without comparing, though it may be released here.
  if (prevIndex >= log.commit && !log.matches({ index: prevIndex, term: prevTerm })) {
    const hint = log.lastPositionWithin({ index: prevIndex, term: prevTerm });
    state.send({
      kind: 'append-rejected',
      from,
      to,
      term,
      rejectedIndex: prevIndex,
      hintIndex: hint.index,
      hintTerm: hint.term,
    });
    return;
  }

  const replacedFrom = log.merge(entries);
  if (replacedFrom !== undefined) state.durability.replacedFrom(replacedFrom);
  const matchIndex = Math.max(prevIndex + entries.length, log.commit);
  follower.matchIndex = Math.max(follower.matchIndex, matchIndex);
  state.commitTo(Math.min(message.commit, follower.matchIndex));
  const isOnlyCommit = entries.length === 0 && message.commit > 0;
  if (isOnlyCommit) return;
  state.sendWhenStored({ kind: 'append-accepted', from, to, term, matchIndex });
}

function onHeartbeat(state: State, follower: Follower, message: Heartbeat): void {
  // It never names more than this member confirmed to this leader.
  if (message.commit > state.log.lastIndex) state.forgotten = message.commit;
  state.commitTo(Math.min(message.commit, follower.matchIndex));
  state.send({
    kind: 'heartbeat-response',
    from: state.id,
    to: message.from,
    term: state.term,
    context: message.context,
    matchIndex: follower.matchIndex,
  });
}
