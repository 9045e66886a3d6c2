/** Medians of repeated measurements, ratios to the peers, and whether the goals are met. */
import { coldFigureOf, type Figure, figures, type Measurement, median } from './measure.ts';
import { casesOf, systemsOf, type Wanted } from './plan.ts';
import type { Case, Goal, PeerName, Row } from './row.ts';
import type { Sample } from './run.ts';
import { type BenchSystem, benchSystems, ownSystem } from './systems.ts';

/** One system in one case. With what it says of the run, a line can be read by itself. */
export type Result = {
  readonly workload: string;
  readonly title: string;
  readonly concurrency: number;
  readonly members: number;
  readonly system: string;
  /** The figure that is compared: one of these three. */
  readonly ops?: number;
  readonly ms?: number;
  readonly mb?: number;
  /** The least and the most of the repetitions. */
  readonly low?: number;
  readonly high?: number;
  /** The same figure of processes that have just been started. */
  readonly cold?: number;
  readonly repetitions: number;
  /** How many times as good conclave is as this one; in conclave's own line, as `ratioTo`. */
  readonly ratio?: number;
  /** The best of the peers that can be compared. */
  readonly ratioTo?: string;
  /** In conclave's lines. */
  readonly goal?: string;
  /** Absent when a peer that the goal names was not measured, and after a quick run. */
  readonly isMet?: boolean;
  readonly remark?: string;
  /** Why there is no figure. */
  readonly skipped?: string;
  /** All that was measured, medians. */
  readonly measured: Measurement;
};

export type Skipped = (system: BenchSystem, row: Row) => string | undefined;

const digits = 4;
const measured = [
  ...figures,
  ...figures.map(coldFigureOf),
  ...(['clientMicroseconds', 'serverMicroseconds', 'fairness', 'anonymousMb'] as const),
];

export function evaluate(
  rows: readonly Row[],
  wanted: Wanted,
  systems: readonly BenchSystem[],
  samples: readonly Sample[],
  skipped: Skipped,
): Result[] {
  return rows.flatMap((row) =>
    casesOf(row, wanted).flatMap((one) => {
      const results = systemsOf(row, one, systems).map((system) =>
        resultOf(row, one, system, samples, skipped),
      );
      return compare(one, results, wanted.isQuick);
    }),
  );
}

function resultOf(
  row: Row,
  one: Case,
  system: BenchSystem,
  samples: readonly Sample[],
  skipped: Skipped,
): Result {
  const measurements = samples
    .filter(
      (sample) =>
        sample.row === row.name &&
        sample.system === system.name &&
        sample.members === one.members &&
        sample.concurrency === one.concurrency,
    )
    .map((sample) => sample.measurement);
  const values = valuesOf(measurements, one.figure);
  const cold = valuesOf(measurements, coldFigureOf(one.figure));
  const remark = one.remarks?.[system.name as PeerName];
  const why = skipped(system, row) ?? (values.length === 0 ? 'failed' : undefined);
  return {
    workload: one.workload ?? row.name,
    title: one.title ?? row.title,
    concurrency: one.concurrency,
    members: one.members,
    system: system.name,
    ...(why === undefined
      ? {
          [unitOf(one.figure)]: round(median(values)),
          low: round(Math.min(...values)),
          high: round(Math.max(...values)),
          ...(cold.length === 0 ? {} : { cold: round(median(cold)) }),
        }
      : { skipped: why }),
    repetitions: values.length,
    ...(remark === undefined ? {} : { remark }),
    measured: mediansOf(measurements),
  };
}

const valuesOf = (measurements: readonly Measurement[], name: keyof Measurement): number[] =>
  measurements.map((one) => one[name]).filter((value) => value !== undefined);

function mediansOf(measurements: readonly Measurement[]): Measurement {
  return Object.fromEntries(
    measured.flatMap((name) => {
      const values = valuesOf(measurements, name);
      return values.length === 0 ? [] : [[name, round(median(values))]];
    }),
  );
}

function compare(one: Case, results: readonly Result[], isQuick: boolean): Result[] {
  const own = results.find((result) => result.system === ownSystem.name);
  const ratios = new Map<string, number>();
  for (const result of results)
    if (result !== own) {
      const ratio = ratioOf(own, result);
      if (ratio !== undefined) ratios.set(result.system, ratio);
    }
  const rivals = [...ratios].filter(([name]) => isRival(one, name)).sort(([, a], [, b]) => a - b);
  const [strongest] = rivals;
  const { goal } = one;
  return results.map((result) => {
    const ratio = result === own ? strongest?.[1] : ratios.get(result.system);
    const isMet =
      goal === undefined || isQuick || result !== own ? undefined : judge(goal, own, ratios);
    return {
      ...result,
      ...(ratio === undefined ? {} : { ratio: round(ratio) }),
      ...(result === own && strongest !== undefined ? { ratioTo: strongest[0] } : {}),
      ...(result === own && goal !== undefined ? { goal: goalText(goal, one.figure) } : {}),
      ...(isMet === undefined ? {} : { isMet }),
    };
  });
}

const isRival = ({ peers, incomparable = [] }: Case, name: string): boolean =>
  peers.some((peer) => peer === name) && !incomparable.some((peer) => peer === name);

function judge(goal: Goal, own: Result, ratios: ReadonlyMap<string, number>): boolean | undefined {
  const value = mainFigure(own);
  if (value === undefined) return undefined;
  switch (goal.kind) {
    case 'atMost':
      return value <= goal.limit;
    case 'atLeast':
      return value >= goal.limit;
    case 'times': {
      const wanted = goal.of.map((peer) => ratios.get(peer));
      if (wanted.some((ratio) => ratio === undefined)) return undefined;
      return wanted.every((ratio) => ratio !== undefined && ratio >= goal.times);
    }
  }
}

function goalText(goal: Goal, figure: Figure): string {
  switch (goal.kind) {
    case 'atMost':
      return `at most ${figureText(goal.limit, unitOf(figure))}`;
    case 'atLeast':
      return `at least ${figureText(goal.limit, unitOf(figure))}`;
    case 'times': {
      const names = goal.of.map(titleOf).join(' and ');
      if (goal.times < 1) return `level with ${names}`;
      return goal.times === 1 ? `ahead of ${names}` : `${goal.times}x ${names}`;
    }
  }
}

/** How many times as good `own` is. */
function ratioOf(own: Result | undefined, other: Result): number | undefined {
  const mine = own && mainFigure(own);
  const its = mainFigure(other);
  if (mine === undefined || its === undefined) return undefined;
  return other.ops === undefined ? its / mine : mine / its;
}

export type Unit = 'ops' | 'ms' | 'mb';

export function unitOf(figure: Figure): Unit {
  if (figure === 'operationsPerSecond') return 'ops';
  return figure === 'residentMb' ? 'mb' : 'ms';
}

export const mainFigure = ({ ops, ms, mb }: Result): number | undefined => ops ?? ms ?? mb;

export function resultText(result: Result): string | undefined {
  const value = mainFigure(result);
  return value === undefined ? undefined : figureText(value, unitOfResult(result));
}

export const coldText = (result: Result): string | undefined =>
  result.cold === undefined ? undefined : figureText(result.cold, unitOfResult(result));

const unitOfResult = ({ ops, ms }: Result): Unit =>
  ops !== undefined ? 'ops' : ms !== undefined ? 'ms' : 'mb';

function figureText(value: number, unit: Unit): string {
  switch (unit) {
    case 'ops':
      return `${Math.round(value).toLocaleString('en-US')}/s`;
    case 'mb':
      return `${Math.round(value)} MB`;
    case 'ms':
      return value < 10
        ? `${value.toFixed(2)} ms`
        : `${Math.round(value).toLocaleString('en-US')} ms`;
  }
}

export const titleOf = (name: string): string =>
  benchSystems.find((system) => system.name === name)?.server.name === 'nats'
    ? 'NATS'
    : (benchSystems.find((system) => system.name === name)?.title ?? name);

const round = (value: number): number => Number(value.toPrecision(digits));
