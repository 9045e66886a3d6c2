/** Every nemesis, and those that each run begins with. */
import { corruptedLog, forgottenLog, truncatedLog } from './damaged-log.ts';
import { diskFullFollower, diskFullLeader } from './disk-full.ts';
import { eioFollower, eioLeader, slowFollower, slowLeader } from './failing-disk.ts';
import { killAll, killFollower, killLeader, killMajority } from './kill.ts';
import { moveLeader, stopLeader } from './leave.ts';
import type { Nemesis } from './nemesis.ts';
import {
  deafFollower,
  deafLeader,
  isolateFollower,
  isolateLeader,
  muteLeader,
  splitAll,
  splitFollowers,
} from './partition.ts';
import { pauseAll, pauseFollower, pauseLeader } from './pause.ts';
import { powerCutAll, powerCutLeader } from './power-cut.ts';

/** One of each kind, in the time that a check before a change may take. */
export const selection: readonly Nemesis[] = [
  killLeader,
  killFollower,
  killMajority,
  killAll,
  pauseLeader,
  isolateLeader,
  muteLeader,
  deafLeader,
  stopLeader,
  moveLeader,
  slowFollower,
  eioLeader,
  powerCutAll,
  truncatedLog,
  diskFullFollower,
];

export const everyNemesis: readonly Nemesis[] = [
  ...selection,
  pauseFollower,
  pauseAll,
  isolateFollower,
  deafFollower,
  splitFollowers,
  splitAll,
  slowLeader,
  eioFollower,
  powerCutLeader,
  corruptedLog,
  forgottenLog,
  diskFullLeader,
];
