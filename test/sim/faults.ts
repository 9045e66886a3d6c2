/**
 * Which faults a run has, and how often. Each is off in half of the runs, so that no fault always
 * hides what another would show, and drawn anew otherwise. Rates follow the test programme; a "tick"
 * is the heartbeat interval.
 */

import type { PointName } from '../../server/points.ts';
import { type Engine, MS, SECOND } from './engine/engine.ts';
import { calmNetwork, type NetworkFaults } from './network.ts';

export type Faults = {
  readonly network: NetworkFaults;
  /** Mean time between two of a kind; infinite when off. */
  readonly meanUs: Readonly<Record<NemesisKind, number>>;
  /** Mean length of a partition. */
  readonly partitionUs: number;
  readonly downUs: number;
  readonly disk: DiskFaults;
  /** Probability of a fault at a named point; absent when there is none. */
  readonly points: ReadonlyMap<string, number>;
  /** Largest deviation of a member's clock, in parts per million. */
  readonly driftPpm: number;
  /** Peers hear at once when a member dies. */
  readonly resets: boolean;
};

export type NemesisKind =
  | 'partition'
  | 'crash'
  | 'power-loss'
  | 'pause'
  | 'slow-disk'
  | 'campaign'
  | 'transfer'
  | 'broken-connection'
  | 'membership';

export type DiskFaults = {
  readonly meanWriteUs: number;
  /** Of writes that take up to two seconds. */
  readonly slowRate: number;
  /** Of writes that fail, after which the member dies. */
  readonly errorRate: number;
  /** Of crashes that leave a part of the write under way. */
  readonly tornRate: number;
};

export const calmDisk: DiskFaults = {
  meanWriteUs: MS,
  slowRate: 0,
  errorRate: 0,
  tornRate: 0,
};

const TICK_US = 100 * MS;

export function drawFaults(engine: Engine, points: readonly PointName[]): Faults {
  const draw = (name: string, bound: number) => engine.decisions.site('knobs', name).below(bound);
  const isOn = (name: string) => draw(`with ${name}`, 2) === 1;
  /** Between `least` and `most`, in equal steps of the logarithm. */
  const between = (name: string, least: number, most: number) =>
    least * (most / least) ** (draw(name, 1_001) / 1_000);
  const rate = (name: string, most: number) =>
    isOn(name) ? (most * draw(name, 1_001)) / 1_000 : 0;
  const mean = (name: string, least: number, most: number) =>
    isOn(name) ? Math.round(between(name, least, most)) : Number.POSITIVE_INFINITY;

  return {
    network: {
      meanDelayUs: Math.round(between('delay', MS, 100 * MS)),
      lossRate: rate('loss', 0.3),
      duplicateRate: rate('duplicate', 0.2),
      replayRate: rate('replay', 0.5) / 4,
      clogRate: rate('clog', 0.02),
      inOrder: isOn('order'),
    },
    meanUs: {
      partition: mean('partition', 8 * TICK_US, 200 * TICK_US),
      crash: mean('crash', 12 * TICK_US, 250 * TICK_US),
      'power-loss': mean('power-loss', 10 * SECOND, 60 * SECOND),
      pause: mean('pause', 25 * TICK_US, 500 * TICK_US),
      'slow-disk': mean('slow-disk', 20 * TICK_US, 200 * TICK_US),
      campaign: mean('campaign', 5 * TICK_US, 200 * TICK_US),
      transfer: mean('transfer', 10 * TICK_US, 200 * TICK_US),
      'broken-connection': mean('broken-connection', 5 * TICK_US, 100 * TICK_US),
      membership: mean('membership', SECOND, 30 * SECOND),
    },
    partitionUs: Math.round(between('partition-length', 4 * TICK_US, 100 * TICK_US)),
    downUs: Math.round(between('down', TICK_US, 40 * TICK_US)),
    disk: {
      meanWriteUs: Math.round(between('write', MS / 10, 30 * MS)),
      slowRate: rate('slow-write', 0.05),
      errorRate: rate('write-error', 0.002),
      tornRate: isOn('torn') ? 0.9 : 0,
    },
    points: drawPoints(engine, points),
    driftPpm: isOn('drift') ? 500 : 0,
    resets: isOn('resets'),
  };
}

/** Everything that goes wrong, so many times more seldom; what clocks do stays. */
export function softened(faults: Faults, times: number): Faults {
  const { network, meanUs, disk, points } = faults;
  if (times === 1) return faults;
  return {
    ...faults,
    network: {
      ...network,
      meanDelayUs: Math.min(network.meanDelayUs, 10 * MS),
      lossRate: network.lossRate / times,
      duplicateRate: network.duplicateRate / times,
      replayRate: network.replayRate / times,
      clogRate: network.clogRate / times,
    },
    meanUs: mapValues(meanUs, (mean) => mean * times),
    disk: { ...disk, slowRate: disk.slowRate / times, errorRate: disk.errorRate / times },
    points: new Map([...points].map(([point, probability]) => [point, probability / times])),
  };
}

const mapValues = <K extends string>(
  record: Readonly<Record<K, number>>,
  change: (value: number) => number,
): Readonly<Record<K, number>> =>
  Object.fromEntries(
    Object.entries<number>(record).map(([key, value]) => [key, change(value)]),
  ) as Record<K, number>;

/** A few points at most, or nothing would ever be achieved. */
function drawPoints(engine: Engine, known: readonly PointName[]): ReadonlyMap<string, number> {
  const count = engine.decisions.site('knobs', 'points').below(6);
  const which = engine.decisions.site('knobs', 'point');
  const rate = engine.decisions.site('knobs', 'point-rate');
  const points = new Map<string, number>();
  for (let drawn = 0; drawn < count; drawn += 1) {
    const point = known[which.below(known.length)];
    const probability = 0.5 * ((1 + rate.below(1_000)) / 1_000) ** 2;
    if (point !== undefined) points.set(point, probability);
  }
  return points;
}

/** After the faults: a network and disks that work. */
export const noFaults: Pick<Faults, 'network' | 'disk' | 'points'> = {
  network: calmNetwork,
  disk: calmDisk,
  points: new Map(),
};
