/** What a member needs of the run it is part of. */
import type { PointName } from '../../../server/points.ts';
import type { Message, NodeId } from '../../../server/raft/message.ts';
import { type Engine, MS } from '../engine/engine.ts';
import type { DiskFaults } from '../faults.ts';
import type { RaftChecker } from './checker.ts';
import type { RaftKnobs } from './knobs.ts';
import type { RaftMember } from './member.ts';

export interface RaftWorld {
  readonly engine: Engine;
  readonly knobs: RaftKnobs;
  readonly checker: RaftChecker;
  readonly diskFaults: DiskFaults;
  readonly driftPpm: number;
  send(from: number, message: Message): void;
  /** The member came to this point; it may be dead or paused afterwards. */
  reached(member: RaftMember, point: PointName): void;
  /** Its disk failed. */
  failed(member: RaftMember): void;
  readsEnded(reads: readonly number[]): void;
  /** Carries the state of one member to another. */
  carrySnapshot(from: RaftMember, to: NodeId): void;
}

/** The heartbeat interval, before drift and jitter. */
export const TICK_US = 100 * MS;
