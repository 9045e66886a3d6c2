/** Looks for a mutant with what must find it. */
import { type Killer, seedsOf } from './mutant.ts';
import type { TestReport } from './tester.ts';
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

/** The words with which the simulator tells what broke. */
const BROKEN = /seed (\d+) breaks invariant (\d+)/;

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
  const limitMs = TEST_LIMIT_MS * Math.max(1, files.length / FILES_AT_ONCE);
  const report = await workshop.test(files, names, limitMs);
  const trouble = troubles(report);
  return trouble === '' ? undefined : trouble;
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
  const report = await workshop.test([file], name, TEST_LIMIT_MS);
  const by = `${file.replace(/^test\/|\.test\.ts$/g, '')}: ${name}`;
  // A test that failed, as against a file that could not even be loaded.
  if (report !== undefined && report.failed.length > 0) {
    return { kind: 'killed', by, seeds: undefined };
  }
  const isMissing = report?.passed === 0 && report.errors.length === 0;
  const output = isMissing ? 'there is no test of this name' : troubles(report);
  return survived(by, { exitCode: output === '' ? 0 : 1, output });
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

/** What went wrong beside tests, for people. */
function troubles(report: TestReport | undefined): string {
  if (report === undefined) return 'stopped: it took too long';
  return [...report.failed, ...report.errors].join('\n');
}

/** An exit code without a finding is a killer that is broken itself: shown, and never a kill. */
const survived = (by: string, { exitCode, output }: Finished): Kill => ({
  kind: 'survived',
  by,
  detail: exitCode === 0 ? '' : `\n${output.slice(-2_000)}`,
});
