/**
 * Measures conclave beside the stores that it stands in for, on this machine and in one interleaved
 * run. See `server/docs/speed.md` for what the rows are and what they do not show, `--help` for the
 * options.
 *
 * Every member has a process and a fresh directory on disk of its own, every client a process.
 * Figures are medians of the repetitions. What is not installed is skipped.
 */
import {
  dataFolder,
  describeMachine,
  othersBusyPercent,
  refuseMemoryDisk,
  versionsOf,
} from './machine.ts';
import { settleMs, warmUpMs } from './measure.ts';
import { type Options, parseOptions, usage } from './options.ts';
import { publish } from './publish.ts';
import {
  type Circumstances,
  type Line,
  readLines,
  type SystemFacts,
  writeLines,
} from './report.ts';
import { evaluate, type Skipped } from './results.ts';
import { runAll, type Sample } from './run.ts';
import { type BenchSystem, benchSystem } from './systems.ts';
import { asText, coldTableOf, tableOf } from './table.ts';

if (process.argv.includes('--help')) {
  console.log(usage);
  process.exit(0);
}
const options = parseOptions(process.argv.slice(2));
const failures =
  options.from === undefined ? await measureAll(options) : show(options, readLines(options.from));
process.exit(failures === 0 ? 0 : 1);

/** Returns how many measurements failed. */
async function measureAll(options: Options): Promise<number> {
  refuseMemoryDisk();
  const missing = new Map(options.systems.map((system) => [system, system.server.missing()]));
  const skipped: Skipped = (system, row) => missing.get(system) ?? row.missing?.();
  tellWhatIsSkipped(options, missing);
  for (const row of options.rows) if (row.missing?.() === undefined) await row.prepare?.();
  const circumstances: Circumstances = {
    date: new Date().toISOString(),
    machine: describeMachine(),
    durationMs: options.durationMs,
    warmUpMs: options.isQuick ? settleMs : warmUpMs,
    isQuick: options.isQuick,
    othersBusyPercent: await othersBusyPercent(),
  };
  const { machine, othersBusyPercent: busy } = circumstances;
  console.log(`${machine}, data in ${dataFolder}, ${busy} % busy with other things`);
  if (options.isQuick)
    console.log(`a warm-up of ${settleMs} ms instead of ${warmUpMs} ms: the figures are cold`);
  const facts = new Map(options.systems.map((system) => [system.name, factsOf(system)]));
  const linesOf = (samples: readonly Sample[]): readonly Line[] =>
    evaluate(options.rows, options, options.systems, samples, skipped).map((result) => ({
      ...result,
      ...(facts.get(result.system) ?? { version: '', durability: '' }),
      ...circumstances,
    }));
  const present = options.systems.filter((system) => missing.get(system) === undefined);
  const { samples, failures } = await runAll(options, present, (soFar) => {
    if (options.json !== undefined) writeLines(options.json, linesOf(soFar));
  });
  show(options, linesOf(samples));
  if (failures > 0) console.error(`${failures} measurements failed`);
  return failures;
}

function tellWhatIsSkipped(
  { rows }: Options,
  missing: ReadonlyMap<BenchSystem, string | undefined>,
): void {
  for (const [system, why] of missing)
    if (why !== undefined) console.log(`skipped ${system.name}: ${why}`);
  for (const row of rows) {
    const why = row.missing?.();
    if (why !== undefined) console.log(`skipped ${row.name}: ${why}`);
  }
}

function factsOf(system: BenchSystem): SystemFacts {
  const { durability } = system.server;
  const isThere = system.server.missing() === undefined;
  return { durability, version: isThere ? versionsOf(system) : 'not installed' };
}

function show(options: Options, lines: readonly Line[]): number {
  console.log(asText(tableOf(lines)));
  const cold = coldTableOf(lines);
  if (cold.lines.length > 0) console.log(`\nCold, from the same run:\n${asText(cold)}\n`);
  for (const name of new Set(lines.map((line) => line.system)))
    console.log(`${benchSystem(name).title}: a write is ${benchSystem(name).server.durability}`);
  for (const why of new Set(lines.map((line) => line.skipped)))
    if (why !== undefined && why !== 'failed') console.log(`skipped: ${why}`);
  if (options.json !== undefined) {
    writeLines(options.json, lines);
    console.log(`written: ${options.json}`);
  }
  if (options.publishes) publish(lines);
  return 0;
}
