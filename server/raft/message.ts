/** The values that Raft speaks: no wire types, no I/O. Terms and indexes are integers from 1; 0 is "none". */
export type NodeId = bigint;

export const NO_NODE: NodeId = 0n;

/** What must survive a restart besides the log (Raft, figure 2). */
export type HardState = {
  readonly term: number;
  readonly votedFor: NodeId;
  readonly commit: number;
};

export type EntryKind = 'command' | 'no-op' | 'configuration';

export type Entry = {
  readonly index: number;
  readonly term: number;
  readonly kind: EntryKind;
  readonly data: Uint8Array;
};
