/** Looks for a mutant with what must find it. */
import { join } from 'node:path';
import { type Killer, seedsOf } from './mutant.ts';
import type { Finished, Workshop } from './workshop.ts';

export type Kill =
  | { readonly kind: 'killed'; readonly by: string; readonly seeds: number | undefined }
  | { readonly kind: 'survived'; readonly by: string; readonly detail: string };

/** The longest that one killer may take. */
const LIMIT_MS = 12 * 60_000;

const tsx = ['--import', 'tsx'];

/** The words with which the simulator tells what broke. */
const BROKEN = /seed (\d+) breaks invariant (\d+)/;
/** A test that failed, as against a file that could not even be loaded. */
const FAILED_TEST = /Tests\s+\d+ failed/;

export async function hunt(workshop: Workshop, killer: Killer): Promise<Kill> {
  return killer.kind === 'simulation' ? simulate(workshop, killer) : test(workshop, killer);
}

async function simulate(
  workshop: Workshop,
  { layer, budget }: Extract<Killer, { kind: 'simulation' }>,
): Promise<Kill> {
  const seeds = seedsOf[budget];
  const { exitCode, output } = await workshop.run(
    [...tsx, 'test/sim/main.ts', '--layer', layer, '--seeds', `${seeds}`, '--no-shrink'],
    LIMIT_MS,
  );
  const [, seed, invariant] = BROKEN.exec(output) ?? [];
  if (exitCode !== 0 && seed !== undefined) {
    return { kind: 'killed', by: `invariant ${invariant} (${layer})`, seeds: Number(seed) };
  }
  return survived(`${seeds} seeds (${layer})`, { exitCode, output });
}

async function test(
  workshop: Workshop,
  { file, name }: Extract<Killer, { kind: 'test' }>,
): Promise<Kill> {
  const { exitCode, output } = await workshop.run(
    [
      join('node_modules', 'vitest', 'vitest.mjs'),
      'run',
      '--config',
      'test/vitest.config.ts',
      '--bail=1',
      ...(name === undefined ? [] : ['-t', name]),
      file,
    ],
    LIMIT_MS,
  );
  const by = name === undefined ? file : `${file}: ${name}`;
  if (exitCode !== 0 && FAILED_TEST.test(output)) return { kind: 'killed', by, seeds: undefined };
  return survived(by, { exitCode, output });
}

/** An exit code without a finding is a killer that is broken itself: shown, and never a kill. */
const survived = (by: string, { exitCode, output }: Finished): Kill => ({
  kind: 'survived',
  by,
  detail: exitCode === 0 ? '' : `\n${output.slice(-2_000)}`,
});
