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
  readonly shard?: Shard;
  readonly markdown?: string;
};

/** Every so many-th, beginning with this one of them. */
type Shard = { readonly at: number; readonly of: number };

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

const shardOf = (text: string): Shard => {
  const [, at = 0, of = 0] = (/^(\d+)\/(\d+)$/.exec(text) ?? []).map(Number);
  if (!(at >= 1 && at <= of)) throw new InvalidArgumentError("It must be like '1/3'.");
  return { at, of };
};

const program = new Command('mutants')
  .description('Plants defects in a copy of the sources and has them found.')
  .option('--only <numbers>', 'only these mutants, with commas between', numbers)
  .option('--quick', 'have each found once: by its tests, else within 100 seeds', false)
  .option('--shard <part>', 'a part of them, such as 1/3', shardOf)
  .option('--jobs <count>', 'how many at a time', count, 3)
  .option('--markdown <file>', 'write the table to this file as well')
  .parse();
const { only, quick, shard = { at: 1, of: 1 }, jobs, markdown } = program.opts<Options>();

// So that what was started and copied goes with the program.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));

const startMs = performance.now();
const due = ({ killers }: Mutant): readonly Killer[] => {
  if (!quick) return killers;
  const tests = killers.filter(({ kind }) => kind === 'test');
  if (tests.length > 0) return tests;
  return killers.filter((killer) => killer.kind === 'simulation' && killer.budget === 'T1');
};
const chosen = mutants
  .filter(({ number }) => only?.includes(number) ?? true)
  .filter((_, index) => index % shard.of === shard.at - 1)
  .map((mutant): Mutant => ({ ...mutant, killers: due(mutant) }))
  .filter(({ killers, exempt }) => killers.length > 0 || exempt !== undefined);
const results: Result[] = [];
process.exitCode = (await main()) ? 0 : 1;

/** @returns whether every mutant was found. */
async function main(): Promise<boolean> {
  const workshops = await Promise.all(Array.from({ length: jobs + 1 }, Workshop.open));
  const [sound, ...others] = workshops as [Workshop, ...Workshop[]];
  try {
    // A killer that finds something in sound code proves nothing about a mutant.
    const killers = chosen.flatMap((mutant) => mutant.killers);
    const fault = await complaint(sound, killers);
    if (fault !== undefined) {
      console.log(`without any mutant:\n${fault.slice(-4_000)}`);
      return false;
    }
    console.log(columns.text);
    const waiting = groups();
    await Promise.all(others.map((workshop) => work(workshop, sound, waiting)));
  } finally {
    for (const workshop of workshops) await workshop[Symbol.asyncDispose]();
  }
  if (markdown !== undefined) writeFileSync(markdown, columns.markdown + markdownRows());
  return summarize();
}

/** Those that one file of tests finds go to one workshop, which has read it then. */
function groups(): Mutant[][] {
  const byFile = new Map<string, Mutant[]>();
  for (const mutant of chosen) {
    const [killer] = mutant.killers;
    const file = killer?.kind === 'test' ? killer.file : `${mutant.number}`;
    byFile.set(file, [...(byFile.get(file) ?? []), mutant]);
  }
  return [...byFile.values()];
}

async function work(workshop: Workshop, sound: Workshop, waiting: Mutant[][]): Promise<void> {
  for (let group = waiting.shift(); group !== undefined; group = waiting.shift()) {
    for (const mutant of group) {
      const result = { mutant, kills: await killsOf(workshop, sound, mutant) };
      results.push(result);
      console.log(row(result).text);
    }
  }
}

async function killsOf(
  workshop: Workshop,
  sound: Workshop,
  mutant: Mutant,
): Promise<readonly Kill[]> {
  const kills: Kill[] = [];
  try {
    await workshop.with(mutant, async () => {
      for (const killer of mutant.killers) kills.push(await hunt(workshop, sound, killer));
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
