/**
 * What the network face needs of the member behind it. `node.ts` implements it; tests use a fake.
 *
 * Every promise may reject with a `Fault` (no leader, timed out, stopped, refused by apply) or, when
 * the signal given to it aborts, with that signal's reason.
 */
import type { ClientCall } from '../clients/call.ts';
import type { Command, CommandResult } from '../command.ts';
import type { MembershipCommand } from '../membership.ts';
import type {
  Bytes,
  LeaseId,
  PairSink,
  RangeRequest,
  RangeResult,
  Revision,
  TxnRequest,
  TxnResult,
} from '../mvcc/types.ts';
import type { StateCopy } from '../ports.ts';
import type { Alarm, MemberFact } from '../roster.ts';
import type { Hub } from '../watch/hub.ts';

/** The result that belongs to a command; a `fault` result is thrown instead. */
export type ResultOf<C extends Command> = ResultOfKind<C['kind'], CommandResult>;
type ResultOfKind<Kind, Result> = Result extends { readonly kind: infer Kinds }
  ? Kind extends Kinds
    ? Result
    : never
  : never;

export type LeaseDescription = {
  readonly remainingSeconds: number;
  readonly grantedSeconds: number;
  /** In key order; empty unless asked for. */
  readonly keys: readonly Bytes[];
};

export type HashDescription = {
  /** Unsigned 32 bits. */
  readonly hash: number;
  readonly compactRevision: Revision;
  /** The revision that was hashed. */
  readonly hashRevision: Revision;
};

/** Who asked. Making the signal costs more than a small read or a renewal, so only who waits looks at it. */
export type Caller = {
  /** Aborts when nobody waits any longer. */
  readonly signal: AbortSignal;
};

export type ReadOptions = {
  /** Read what this member has, without asking a quorum whether it is the newest. */
  readonly serializable: boolean;
  readonly caller?: Caller;
};

export type RangeOptions = ReadOptions & {
  /** Where the pairs go instead of into the result: asked for again when the read begins anew. */
  readonly sink?: (() => PairSink) | undefined;
};

/** Cheap facts: read at every request, so they are plain properties. */
export interface MemberFacts {
  readonly clusterId: bigint;
  readonly memberId: bigint;
  readonly name: string;
  /** The newest revision applied here. */
  readonly revision: Revision;
  readonly compactRevision: Revision;
  readonly term: number;
  /** 0n while none is known. */
  readonly leader: bigint;
  readonly isLeader: boolean;
  readonly isLearner: boolean;
  /** Set once the member begins to stop: new requests are refused. */
  readonly isStopping: boolean;
  /** Set while another member's state takes the place of this one's: nothing can be read. */
  readonly isInstalling: boolean;
  readonly alarms: readonly Alarm[];
  readonly members: readonly MemberFact[];
  readonly lastIndex: number;
  readonly commitIndex: number;
  readonly appliedIndex: number;
  readonly electionTimeoutMs: number;
}

export interface Member extends MemberFacts {
  readonly hub: Hub;

  /**
   * Replicates and applies, on any member. A caller that stops waiting does not undo it: the outcome
   * is unknown. With `client` it takes effect at most once, and a repetition gets the first result,
   * whatever kind of command that was.
   */
  propose<C extends Command>(command: C, client?: ClientCall): Promise<ResultOf<C>>;
  range(request: RangeRequest, options: RangeOptions): Promise<RangeResult>;
  /** Only for transactions without writes. */
  readTxn(request: TxnRequest, options: ReadOptions): Promise<TxnResult>;
  /** Resolves once this member has applied everything committed before the call. */
  linearize(signal?: AbortSignal): Promise<void>;

  /** The granted seconds, or undefined when there is no such lease. Any member may be asked. */
  renewLease(id: LeaseId, caller?: Caller): Promise<number | undefined>;
  /** The same for many, in their order. */
  renewLeases(ids: readonly LeaseId[], caller?: Caller): Promise<readonly (number | undefined)[]>;
  /** Undefined when there is no such lease. Any member may be asked. */
  describeLease(
    id: LeaseId,
    withKeys: boolean,
    caller?: Caller,
  ): Promise<LeaseDescription | undefined>;
  /** In order of expiry. */
  leases(caller?: Caller): Promise<readonly LeaseId[]>;

  /** `revision` 0 is the newest. */
  hashKv(revision: Revision): Promise<HashDescription>;
  snapshot(): Promise<StateCopy>;
  /** Resolves once the target leads. Called on the leader only, with a voting member's id. */
  moveLeader(target: bigint): Promise<void>;
  /** Any member may be asked. Returns all members after the change. */
  changeMembership(change: MembershipCommand, signal: AbortSignal): Promise<readonly MemberFact[]>;

  /** Bytes on disk, how many hold live data, and the most they may be; a quota of 0 means no limit. */
  readonly space: {
    readonly sizeBytes: number;
    readonly usedBytes: number;
    readonly quotaBytes: number;
  };
}
