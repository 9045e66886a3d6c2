/** Looks for a mutant with what must find it. */
import { join } from 'node:path';
import { type Killer, seedsOf } from './mutant.ts';
import type { Finished, Workshop } from './workshop.ts';

export type Kill =
  | { readonly kind: 'killed'; readonly by: string; readonly seeds: number | undefined }
  | { readonly kind: 'survived'; readonly by: string; readonly detail: string };

type Simulation = Extract<Killer, { kind: 'simulation' }>;

/** The longest that one killer may take. */
const SIMULATION_LIMIT_MS = 12 * 60_000;
const TEST_LIMIT_MS = 3 * 60_000;

/** The limit is for so many files. */
const FILES_AT_ONCE = 5;

const tsx = ['--import', 'tsx'];

/** What does not change from mutant to mutant is read once; one file needs no process of its own. */
const inShort = [
  '--experimental.fsModuleCache',
  '--experimental.fsModuleCachePath=.module-cache',
  '--pool=threads',
] as const;

/** The words with which the simulator tells what broke. */
const BROKEN = /seed (\d+) breaks invariant (\d+)/;
/** A test that failed, as against a file that could not even be loaded. */
const FAILED_TEST = /Tests\s+\d+ failed/;

/**
 * @param workshop where the mutant is in place
 * @param sound a copy without any: a seed that breaks there, too, proves nothing about a mutant
 */
export function hunt(workshop: Workshop, sound: Workshop, killer: Killer): Promise<Kill> {
  return killer.kind === 'simulation' ? simulate(workshop, sound, killer) : test(workshop, killer);
}

/**
 * @returns what the tests among the killers complain about in this sound copy; undefined when all are
 *   content
 */
export async function complaint(
  workshop: Workshop,
  killers: readonly Killer[],
): Promise<string | undefined> {
  const tests = killers.filter((killer) => killer.kind === 'test');
  if (tests.length === 0) return undefined;
  const files = [...new Set(tests.map(({ file }) => file))];
  const names = [...new Set(tests.map(({ name }) => name))].join('|');
  const { exitCode, output } = await runTests(workshop, files, names);
  return exitCode === 0 ? undefined : output;
}

async function simulate(workshop: Workshop, sound: Workshop, killer: Simulation): Promise<Kill> {
  const { layer, budget, workload } = killer;
  const seeds = seedsOf[budget];
  const finished = await runSeeds(workshop, killer, { from: 1, seeds });
  const where = workload === undefined ? layer : `${layer}, ${workload}`;
  const [, seed, invariant] = BROKEN.exec(finished.output) ?? [];
  if (finished.exitCode !== 0 && seed !== undefined) {
    const without = await runSeeds(sound, killer, { from: Number(seed), seeds: 1 });
    if (without.exitCode !== 0) return survived(`seed ${seed}, as without it`, without);
    return { kind: 'killed', by: `invariant ${invariant} (${where})`, seeds: Number(seed) };
  }
  return survived(`${seeds} seeds (${where})`, finished);
}

async function test(
  workshop: Workshop,
  { file, name }: Extract<Killer, { kind: 'test' }>,
): Promise<Kill> {
  const finished = await runTests(workshop, [file], name);
  const by = `${file.replace(/^test\/|\.test\.ts$/g, '')}: ${name}`;
  if (finished.exitCode !== 0 && FAILED_TEST.test(finished.output)) {
    return { kind: 'killed', by, seeds: undefined };
  }
  return survived(by, finished);
}

function runSeeds(
  workshop: Workshop,
  { layer, workload }: Simulation,
  { from, seeds }: { readonly from: number; readonly seeds: number },
): Promise<Finished> {
  const options = ['--layer', layer, '--from', `${from}`, '--seeds', `${seeds}`, '--no-shrink'];
  if (workload !== undefined) options.push('--workload', workload);
  return workshop.run([...tsx, 'test/sim/main.ts', ...options], SIMULATION_LIMIT_MS);
}

/** The tests of the files whose names match. */
function runTests(workshop: Workshop, files: readonly string[], names: string): Promise<Finished> {
  const vitest = join('node_modules', 'vitest', 'vitest.mjs');
  const options = ['--config', 'test/vitest.config.ts', '--bail=1', '-t', names, ...inShort];
  const limitMs = TEST_LIMIT_MS * Math.max(1, files.length / FILES_AT_ONCE);
  return workshop.run([vitest, 'run', ...options, ...files], limitMs);
}

/** An exit code without a finding is a killer that is broken itself: shown, and never a kill. */
const survived = (by: string, { exitCode, output }: Finished): Kill => ({
  kind: 'survived',
  by,
  detail: exitCode === 0 ? '' : `\n${output.slice(-2_000)}`,
});
