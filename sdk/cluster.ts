/** What operators ask of the cluster: the public shape. */
import type { CallOptions } from './options.ts';

export type MemberStatus = {
  readonly memberId: bigint;
  readonly clusterId: bigint;
  /** The server's version. */
  readonly version: string;
  /** 0n when it knows of none. */
  readonly leader: bigint;
  readonly isLearner: boolean;
  readonly revision: bigint;
  readonly raftTerm: bigint;
  readonly raftIndex: bigint;
  readonly raftAppliedIndex: bigint;
  readonly sizeBytes: bigint;
  readonly usedBytes: bigint;
  /** 0n when the server does not say. */
  readonly quotaBytes: bigint;
  /** Alarms and troubles, as the server words them. */
  readonly errors: readonly string[];
};

export type ClusterMember = {
  readonly id: bigint;
  /** '' while it has not started. */
  readonly name: string;
  readonly peerUrls: readonly string[];
  readonly clientUrls: readonly string[];
  readonly isLearner: boolean;
};

export type AlarmKind = 'no-space' | 'corrupt';

export type Alarm = { readonly memberId: bigint; readonly kind: AlarmKind };

export type HashKv = {
  readonly hash: number;
  readonly revision: bigint;
  readonly hashRevision: bigint;
  readonly compactRevision: bigint;
};

/** `endpoint` picks the member to ask; by default it is the one in use. */
export type MemberCallOptions = CallOptions & { readonly endpoint?: string };

export interface ClusterApi {
  /** The endpoints this client knows. */
  readonly endpoints: readonly string[];
  status(options?: MemberCallOptions): Promise<MemberStatus>;
  members(options?: CallOptions): Promise<readonly ClusterMember[]>;
  addMember(
    peerUrls: readonly string[],
    options?: CallOptions & { readonly learner?: boolean },
  ): Promise<ClusterMember>;
  removeMember(id: bigint, options?: CallOptions): Promise<void>;
  updateMember(id: bigint, peerUrls: readonly string[], options?: CallOptions): Promise<void>;
  /** Makes a learner a voter. */
  promoteMember(id: bigint, options?: CallOptions): Promise<void>;
  /**
   * Puts a learner that has caught up in the place of a voter. On a server of ours this is one step; on
   * etcd the learner is promoted and then the other removed, and a repetition goes on where it stopped.
   */
  replaceMember(learner: bigint, old: bigint, options?: CallOptions): Promise<void>;
  alarms(options?: CallOptions): Promise<readonly Alarm[]>;
  disarm(alarm: Alarm, options?: CallOptions): Promise<readonly Alarm[]>;
  /** Hands leadership to another member; ask the leader. */
  moveLeader(target: bigint, options?: MemberCallOptions): Promise<void>;
  defragment(options?: MemberCallOptions): Promise<void>;
  /** A checksum over all keys at a revision (0n or absent: the current one), to compare members by. */
  hashKv(options?: MemberCallOptions & { readonly revision?: bigint }): Promise<HashKv>;
  /** A backup as it streams in; the last 32 bytes are the SHA-256 of all before. */
  snapshot(options?: MemberCallOptions): AsyncIterable<Uint8Array>;
}
