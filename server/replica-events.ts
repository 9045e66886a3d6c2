/** What a replica is told, and what it wants done. */
import type { CommandResult } from './command.ts';
import type { FaultCode } from './faults.ts';
import type { Event, Revision } from './mvcc/types.ts';
import type { ChangeProposal, Proposal } from './proposer.ts';
import type { Configuration } from './raft/configuration.ts';
import type { Message, NodeId, Ready, SnapshotOutcome, StorageWrite } from './raft/message.ts';

/** Chosen by the host, from 1. Proposals, reads and transfers share the numbers. */
export type RequestId = number;

export type ReplicaEvent =
  | { readonly kind: 'tick' }
  | { readonly kind: 'message'; readonly message: Message }
  /** Ask for votes now. */
  | { readonly kind: 'campaign' }
  /** Everything proposed in one turn: one batch of entries. */
  | { readonly kind: 'propose'; readonly requests: readonly Proposal[] }
  /** Only the leader takes it. */
  | ({ readonly kind: 'propose-configuration' } & ChangeProposal)
  | { readonly kind: 'read'; readonly id: RequestId }
  /** Hand leadership over; answered in `Effects.transferred`, or by a fault. */
  | { readonly kind: 'transfer'; readonly id: RequestId; readonly to: NodeId }
  /** The connection to a member broke. */
  | { readonly kind: 'unreachable'; readonly node: NodeId }
  /** How sending the snapshot ended that `Effects.needsSnapshot` asked for. */
  | { readonly kind: 'snapshot-reported'; readonly to: NodeId; readonly outcome: SnapshotOutcome }
  /** The write with this sequence is durable; a snapshot in it has taken the place of the state. */
  | { readonly kind: 'stored'; readonly sequence: number }
  /** A write takes longer than an election: a member that cannot store must not lead. */
  | { readonly kind: 'storage-slow' };

export type Outcome =
  | { readonly id: RequestId; readonly result: CommandResult }
  | { readonly id: RequestId; readonly fault: FaultCode };

export type Published = { readonly revision: Revision; readonly events: readonly Event[] };

/** What disk and network can work on while this member applies what is committed. */
export type Outgoing = {
  /** To storage; then a `stored` event. The next one appears only after that. */
  readonly write: StorageWrite | undefined;
  readonly messages: readonly Message[];
  /** The disk of this member lost the entry at this index, which it had confirmed, see `Ready`. */
  readonly forgotten: number | undefined;
};

export type Effects = {
  readonly outcomes: readonly Outcome[];
  /** Linearizable reads that may be served now. */
  readonly readable: readonly RequestId[];
  /** Transfers whose target leads now. */
  readonly transferred: readonly RequestId[];
  /** Watch events by revision, in order. */
  readonly published: readonly Published[];
  readonly leadershipChanged: boolean;
  /** A received snapshot is the state now: what was derived from the old one is to be made anew. */
  readonly installed: boolean;
  /** Set when who takes part has changed. */
  readonly configuration: Configuration | undefined;
  /** `machine.members` is not what it was. */
  readonly membersChanged: boolean;
  /** Members that need the state, as their entries are no longer in memory. Each is named once. */
  readonly needsSnapshot: Ready['needsSnapshot'];
  /** Committed entries are left over for the next turn. */
  readonly more: boolean;
};
