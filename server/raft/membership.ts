/**
 * Changes of the members, at the moment at which they come into force: when their entry is applied.
 *
 * Invariant G2: a member uses the configuration of the newest entry that it has applied. Two members
 * that lead or campaign are at most one change apart (`State.mayCampaign`, invariant O3), so their
 * majorities share a member (invariant G1).
 */
import { assert } from '../assert.ts';
import { type Configuration, configurationFault, isJoint } from './configuration.ts';
import { type Progress, unknownProgress } from './progress.ts';
import { append, changeRefusal } from './proposal.ts';
import { confirmRounds } from './read-index.ts';
import { advanceCommit } from './replication.ts';
import type { Leader, State } from './state.ts';
import { reviewTransfer } from './transfer.ts';

/** The configuration entry at `index` is applied, and this is in force now. */
export function configure(state: State, index: number, configuration: Configuration): void {
  assert(configurationFault(configuration) === undefined, 'G1: configurations are well-formed');
  state.configuredIndex = Math.max(state.configuredIndex, index);
  state.configuration = configuration;
  const { role } = state;
  if (role.kind !== 'leader') return;
  role.peers = new Map(
    state.peers.map((peer) => [peer, role.peers.get(peer) ?? newcomer(state.log.lastIndex)]),
  );
  // Fewer may be enough now.
  advanceCommit(state, role);
  confirmRounds(state, role);
  reviewTransfer(state, role);
  state.unsent = true;
}

/** The joint configuration is left by whoever leads, as soon as that is possible. */
export function leaveWhenDue(state: State, leader: Leader): void {
  const { configuration } = state;
  if (!isJoint(configuration) || !configuration.autoLeave || leader.transfer !== undefined) return;
  if (changeRefusal(state, leader, 'leave') !== undefined) return;
  append(state, leader, [{ kind: 'configuration', data: new Uint8Array(0) }]);
}

/** It counts as heard: the quorum must not seem lost before it had time to answer. */
function newcomer(lastIndex: number): Progress {
  return { ...unknownProgress(lastIndex), active: true };
}
