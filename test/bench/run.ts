/** Measures all cases on all systems, interleaved: only ratios within a run mean something. */
import type { Measurement } from './measure.ts';
import type { Options } from './options.ts';
import { casesOf, systemsOf } from './plan.ts';
import type { Case, Row } from './row.ts';
import { Stages } from './stages.ts';
import type { BenchSystem } from './systems.ts';

export type Sample = {
  readonly row: string;
  readonly members: number;
  readonly concurrency: number;
  readonly system: string;
  readonly measurement: Measurement;
};

/** Cases that are measured on the same members. */
type Group = { readonly row: Row; readonly members: number; readonly cases: readonly Case[] };

export type Run = { readonly samples: readonly Sample[]; readonly failures: number };

/**
 * @param systems those that can be started here
 * @param onRepetition told after each, so that a run that is cut short is not lost
 */
export async function runAll(
  options: Options,
  systems: readonly BenchSystem[],
  onRepetition: (samples: readonly Sample[]) => void,
): Promise<Run> {
  const samples: Sample[] = [];
  let failures = 0;
  const stages = new Stages(options.isQuick);
  const groups = options.rows.flatMap((row) => groupsOf(row, options));
  for (let repetition = 1; repetition <= options.repetitions; repetition += 1) {
    for (const group of groups) {
      if (repetition > (group.row.repetitionsMax ?? options.repetitions)) continue;
      const taking = systems.filter((system) =>
        group.cases.some((one) => systemsOf(group.row, one, systems).includes(system)),
      );
      // Who goes first changes, so that none always follows the writes of the same other.
      for (const system of repetition % 2 === 0 ? taking.toReversed() : taking) {
        progress(`${repetition}/${options.repetitions} ${group.row.name} on ${system.name}`);
        const outcome = await runGroup(group, stages, system, options);
        samples.push(...outcome.samples);
        failures += outcome.failures;
      }
    }
    progress('');
    onRepetition(samples);
  }
  await stages.close();
  return { samples, failures };
}

function groupsOf(row: Row, options: Options): Group[] {
  if (row.missing?.() !== undefined) return [];
  const cases = casesOf(row, options);
  return [...new Set(cases.map((one) => one.members))].map((members) => ({
    row,
    members,
    cases: cases.filter((one) => one.members === members),
  }));
}

async function runGroup(
  { row, members, cases }: Group,
  stages: Stages,
  system: BenchSystem,
  { durationMs, isQuick }: Options,
): Promise<{ samples: Sample[]; failures: number }> {
  const own = cases.filter((one) => systemsOf(row, one, [system]).length === 1);
  const stage = stages.take(row, system, members);
  const samples: Sample[] = [];
  let failures = 0;
  for (const concurrency of new Set(own.map((one) => one.concurrency))) {
    try {
      const settings = { members, concurrency, durationMs, isQuick };
      const measurement = await row.measure(stage, settings);
      samples.push({ row: row.name, members, concurrency, system: system.name, measurement });
    } catch (error) {
      failures += 1;
      progress('');
      console.error(`${row.name} at ${concurrency} on ${system.name} failed:`, error);
    }
  }
  await stages.giveBack(stage, failures > 0);
  return { samples, failures };
}

/** What is under way, on a line that is written over; silent where nobody looks. */
function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${text}`);
}
