/** What the parts of a full run know of it. */
import type { PointName } from '../../../server/points.ts';
import type { Engine } from '../engine/engine.ts';
import type { Violation } from '../engine/violation.ts';
import type { DiskFaults } from '../faults.ts';
import type { FullKnobs } from './knobs.ts';
import type { FullMember } from './member.ts';
import type { PeerNetwork } from './peer-transport.ts';
import type { Clocks } from './process.ts';

export interface FullWorld {
  readonly engine: Engine;
  readonly knobs: FullKnobs;
  readonly diskFaults: DiskFaults;
  readonly clocks: Clocks;
  readonly peers: PeerNetwork;
  reached(member: FullMember, point: PointName): void;
  /** It serves from now on. */
  started(member: FullMember): void;
  /** Its disk failed. */
  failed(member: FullMember): void;
  /** The cluster goes on without it. */
  expelled(member: FullMember): void;
  /** Found where an exception would not end the run. */
  violated(violation: Violation): void;
  /** By peer URL. */
  memberAt(url: string): FullMember | undefined;
}
