/**
 * `npm run mutants`: plants every defect of the list, one at a time, and has it found.
 *
 * Seeds alone prove nothing: this table is the evidence that the simulator and the tests bite. Exits
 * with 1 when a mutant survives that has no written argument why nobody can tell it from the original.
 */
import { Command, InvalidArgumentError } from 'commander';
import { hunt, type Kill } from './hunt.ts';
import { mutants } from './list/index.ts';
import type { Killer, Mutant } from './mutant.ts';
import { Workshop } from './workshop.ts';

type Options = { readonly only?: readonly number[]; readonly jobs: number };

const numbers = (text: string): readonly number[] =>
  text.split(',').map((part) => {
    const number = Number(part);
    if (!mutants.some((mutant) => mutant.number === number)) {
      throw new InvalidArgumentError(`There is no mutant '${part}'.`);
    }
    return number;
  });

const program = new Command('mutants')
  .description('Plants defects in a copy of the sources and has them found.')
  .option('--only <numbers>', 'only these mutants, with commas between', numbers)
  .option('--jobs <count>', 'how many at a time', Number, 2)
  .parse();
const { only, jobs } = program.opts<Options>();

type Result = { readonly mutant: Mutant; readonly kills: readonly Kill[] };

const chosen = mutants.filter(({ number }) => only?.includes(number) ?? true);
const results: Result[] = [];
const waiting = [...chosen];
if (await isQuietWithoutMutants()) {
  await Promise.all(Array.from({ length: Math.max(1, jobs) }, work));
  process.exitCode = summarize() ? 0 : 1;
} else process.exitCode = 1;

/** A killer that finds something in sound code proves nothing about a mutant. */
async function isQuietWithoutMutants(): Promise<boolean> {
  const killers = new Map(
    chosen
      .flatMap((mutant) => mutant.killers)
      .map((killer): [string, Killer] =>
        killer.kind === 'test'
          ? [`${killer.file} ${killer.name}`, killer]
          : [killer.layer, { ...killer, budget: 'T1' }],
      ),
  );
  await using workshop = await Workshop.open();
  let isQuiet = true;
  for (const killer of killers.values()) {
    const kill = await hunt(workshop, killer);
    const broken = kill.kind === 'killed' || kill.detail !== '';
    if (broken)
      console.log(`without any mutant: ${kill.by} ${'detail' in kill ? kill.detail : ''}`);
    isQuiet &&= !broken;
  }
  return isQuiet;
}

async function work(): Promise<void> {
  await using workshop = await Workshop.open();
  for (let mutant = waiting.shift(); mutant !== undefined; mutant = waiting.shift()) {
    results.push(await examine(workshop, mutant));
  }
}

async function examine(workshop: Workshop, mutant: Mutant): Promise<Result> {
  const kills = await workshop.with(mutant, async () => {
    const found: Kill[] = [];
    for (const killer of mutant.killers) found.push(await hunt(workshop, killer));
    return found;
  });
  const result = { mutant, kills };
  console.log(row(result));
  return result;
}

function row({ mutant, kills }: Result): string {
  const head = `${String(mutant.number).padStart(3)}  ${mutant.name.padEnd(58)}`;
  if (mutant.equivalent !== undefined) return `${head}  equivalent: ${mutant.equivalent}`;
  const found = kills.map((kill) => {
    if (kill.kind === 'survived') return `SURVIVED ${kill.by}${kill.detail}`;
    return kill.seeds === undefined ? kill.by : `${kill.seeds} seeds, ${kill.by}`;
  });
  return `${head}  ${found.join('; ')}`;
}

function summarize(): boolean {
  const killed = results.filter(({ kills }) => kills.every(({ kind }) => kind === 'killed'));
  const equivalent = results.filter(({ mutant }) => mutant.equivalent !== undefined);
  const survivors = results.filter((result) => !killed.includes(result));
  console.log(
    `\n${results.length} mutants: ${killed.length - equivalent.length} killed, ${equivalent.length} equivalent, ${survivors.length} survived`,
  );
  for (const { mutant } of survivors) console.log(`survived: ${mutant.number} ${mutant.name}`);
  return survivors.length === 0;
}
