/** What the nemesis needs of a cluster, of whatever layers it is made. */
import type { Network } from './network.ts';

export interface SimulatedCluster {
  /** Numbers of the members that exist, up or down. */
  readonly members: readonly number[];
  readonly network: Network<never>;
  isUp(member: number): boolean;
  isPaused(member: number): boolean;
  /** Kills it: what is not durable is gone. */
  crash(member: number): void;
  /** Kills it as a power loss does: what the operating system had cached is gone too. */
  losePower(member: number): void;
  start(member: number): void;
  /** Nothing runs on it until it is resumed. */
  pause(member: number): void;
  resume(member: number): void;
  /** Writes take this long for a while. */
  slowDisk(member: number, writeUs: number, durationUs: number): void;
  /** A hint of the kind that the operating system gives or invents. */
  breakConnection(member: number, to: number): void;
  campaign(member: number): void;
  transfer(member: number, to: number): void;
  changeMembership(choice: (bound: number) => number): void;
  /** The member that leads now, as far as it knows; 0 when none does. */
  readonly leader: number;
}
