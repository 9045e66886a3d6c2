/**
 * `npm run mutants`: plants every defect of the list, one at a time, and has it found.
 *
 * Seeds alone prove nothing: this table is the evidence that the simulator and the tests bite. Exits
 * with 1 when a mutant survives that has no written argument.
 */
import { writeFileSync } from 'node:fs';
import { Command, InvalidArgumentError } from 'commander';
import { complaint, hunt, type Kill } from './hunt.ts';
import { mutants } from './list/index.ts';
import type { Killer, Mutant } from './mutant.ts';
import { columns, type Result, row } from './table.ts';
import { MisfitError, Workshop } from './workshop.ts';

type Options = {
  readonly only?: readonly number[];
  readonly jobs: number;
  readonly quick: boolean;
  readonly markdown?: string;
};

const numbers = (text: string): readonly number[] =>
  text.split(',').map((part) => {
    const number = Number(part);
    if (!mutants.some((mutant) => mutant.number === number)) {
      throw new InvalidArgumentError(`There is no mutant '${part}'.`);
    }
    return number;
  });

const count = (text: string): number => {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1) {
    throw new InvalidArgumentError('It must be a whole number, at least 1.');
  }
  return value;
};

const program = new Command('mutants')
  .description('Plants defects in a copy of the sources and has them found.')
  .option('--only <numbers>', 'only these mutants, with commas between', numbers)
  .option('--quick', 'only what tests and at most 100 seeds find', false)
  .option('--jobs <count>', 'how many at a time', count, 2)
  .option('--markdown <file>', 'write the table to this file as well')
  .parse();
const { only, quick, jobs, markdown } = program.opts<Options>();

// So that what was started and copied goes with the program.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));

const startMs = performance.now();
const isDue = (killer: Killer): boolean =>
  !quick || killer.kind === 'test' || killer.budget === 'T1';
const chosen = mutants
  .filter(({ number }) => only?.includes(number) ?? true)
  .map((mutant): Mutant => ({ ...mutant, killers: mutant.killers.filter(isDue) }))
  .filter(({ killers, exempt }) => killers.length > 0 || exempt !== undefined);
const results: Result[] = [];
process.exitCode = (await main()) ? 0 : 1;

/** @returns whether every mutant was found. */
async function main(): Promise<boolean> {
  // A killer that finds something in sound code proves nothing about a mutant.
  const fault = await complaintWithoutMutants();
  if (fault !== undefined) {
    console.log(`without any mutant:\n${fault.slice(-4_000)}`);
    return false;
  }
  console.log(columns.text);
  const waiting = [...chosen];
  await Promise.all(Array.from({ length: jobs }, () => work(waiting)));
  if (markdown !== undefined) writeFileSync(markdown, columns.markdown + markdownRows());
  return summarize();
}

async function complaintWithoutMutants(): Promise<string | undefined> {
  await using workshop = await Workshop.open();
  return await complaint(
    workshop,
    chosen.flatMap(({ killers }) => killers),
  );
}

async function work(waiting: Mutant[]): Promise<void> {
  await using workshop = await Workshop.open();
  for (let mutant = waiting.shift(); mutant !== undefined; mutant = waiting.shift()) {
    const result = { mutant, kills: await killsOf(workshop, mutant) };
    results.push(result);
    console.log(row(result).text);
  }
}

async function killsOf(workshop: Workshop, mutant: Mutant): Promise<readonly Kill[]> {
  const kills: Kill[] = [];
  try {
    await workshop.with(mutant, async () => {
      for (const killer of mutant.killers) kills.push(await hunt(workshop, killer));
    });
  } catch (error) {
    if (!(error instanceof MisfitError)) throw error;
    kills.push({ kind: 'survived', by: error.message, detail: '' });
  }
  return kills;
}

function markdownRows(): string {
  const sorted = results.toSorted((a, b) => a.mutant.number - b.mutant.number);
  return sorted.map((result) => row(result).markdown).join('');
}

function summarize(): boolean {
  const exempt = results.filter(({ mutant }) => mutant.exempt !== undefined);
  const survivors = results.filter(({ kills }) => kills.some(({ kind }) => kind === 'survived'));
  const killed = results.length - exempt.length - survivors.length;
  const minutes = ((performance.now() - startMs) / 60_000).toFixed(1);
  console.log(
    `\n${results.length} mutants: ${killed} killed, ${exempt.length} exempt, ${survivors.length} survived, in ${minutes} minutes`,
  );
  for (const { mutant } of survivors) console.log(`survived: ${mutant.number} ${mutant.name}`);
  return survivors.length === 0;
}
