/** `npm run sim`: runs seeds, reports what broke and how to see it again. */
import { readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { formatSchedule, parseSchedule } from './engine/schedule.ts';
import { TraceHash } from './engine/trace.ts';
import { workloadNames } from './full/workload/choice.ts';
import { allPoints, fullPoints, PointCounts, raftPoints } from './points.ts';
import { type Layer, layers, type RunResult, replay, runSeed, shrinkSeed } from './run.ts';

type Options = {
  readonly layer?: Layer | 'all';
  readonly workload?: string;
  readonly minutes?: number;
  readonly seeds?: number;
  readonly from?: number;
  readonly replay?: string;
  readonly shrink: boolean;
  readonly verbose: boolean;
};

const SHRINK_MS = 120_000;
/** One seed in so many is run twice, and must give the same trace. */
const CHECK_EVERY = 100;
const pointsOf = { raft: raftPoints, full: fullPoints } as const;
const hits = new PointCounts();

const whole = (text: string): number => {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new InvalidArgumentError('It must be a whole number, at least 0.');
  }
  return value;
};

const positive = (text: string): number => {
  const value = Number(text);
  if (!(value > 0)) throw new InvalidArgumentError('It must be a number above 0.');
  return value;
};

const program = new Command('sim')
  .description('Runs clusters on virtual time with simulated networks, disks and faults.')
  .argument('[seed]', 'run this seed', whole)
  .addOption(new Option('--layer <layer>').choices([...layers, 'all']))
  .addOption(
    new Option(
      '--workload <name>',
      'the full layer with clients that do this (default: the seed chooses)',
    ).choices(workloadNames),
  )
  .option('--minutes <minutes>', 'run new seeds for so long', positive)
  .option('--seeds <count>', 'run so many seeds', whole)
  .option(
    '--from <seed>',
    'the first of them (default: 1, or the time of day with --minutes)',
    whole,
  )
  .option('--replay <file>', 'run a stored schedule, telling what happens')
  .option('--no-shrink', 'do not look for a smaller schedule that breaks the same invariant')
  .option('--verbose', 'tell what happens', false);

program.parse();
const options = program.opts<Options>();
const [seed] = program.processedArgs as [number | undefined];
process.exitCode = (await main(options, seed)) ? 0 : 1;

/** @returns whether every invariant held. */
async function main(options: Options, seed: number | undefined): Promise<boolean> {
  if (options.replay !== undefined) return replayFile(options.replay);
  const layer = options.layer ?? (options.workload === undefined ? 'all' : 'full');
  const chosen = layer === 'all' ? layers : [layer];
  if (seed !== undefined) return runOne(chosen, seed, options);
  if (options.minutes === undefined && options.seeds === undefined) {
    program.error('error: give a seed, --seeds, --minutes or --replay');
  }
  let good = true;
  for (const each of chosen) good = (await runMany(each, chosen.length, options)) && good;
  const expected = layer === 'all' ? allPoints : pointsOf[layer];
  const never = hits.neverHit(expected);
  console.log(
    `named points: ${expected.length - never.length} of ${expected.length} hit${never.length === 0 ? '' : `, never: ${never.join(', ')}`}`,
  );
  return good;
}

async function runOne(chosen: readonly Layer[], seed: number, options: Options): Promise<boolean> {
  const trace = new TraceHash();
  let good = true;
  for (const layer of chosen) {
    const result = await runSeed(layer, seed, {
      workload: options.workload,
      narrate: options.verbose ? console.log : undefined,
    });
    trace.addText(result.hash);
    good = (await report(layer, seed, result, options)) && good;
    if (result.violation === undefined) {
      const seconds = Math.round(result.simulatedUs / 1_000_000);
      console.log(`${layer} seed ${seed}: ${result.events} events, ${seconds} simulated seconds`);
    }
  }
  console.log(`trace hash: ${trace.hex}`);
  return good;
}

async function runMany(layer: Layer, shares: number, options: Options): Promise<boolean> {
  const start = performance.now();
  const endMs = start + ((options.minutes ?? Number.POSITIVE_INFINITY) * 60_000) / shares;
  const first = options.from ?? (options.minutes === undefined ? 1 : Date.now() % 1_000_000_000);
  const last = first + (options.seeds ?? Number.POSITIVE_INFINITY);
  const points = new PointCounts();
  const cpu = process.cpuUsage();
  let seed = first;
  let simulatedUs = 0;
  let good = true;
  for (; seed < last && performance.now() < endMs && good; seed += 1) {
    const result = await runSeed(layer, seed, { workload: options.workload });
    points.addAll(result.points);
    simulatedUs += result.simulatedUs;
    good = await report(layer, seed, result, options);
    if (good && seed % CHECK_EVERY === 0) good = await isRepeatable(layer, seed, options, result);
  }
  const { user, system } = process.cpuUsage(cpu);
  const count = seed - first;
  const perMinute = Math.round(count / ((user + system) / 60_000_000));
  const hours = (simulatedUs / 3_600_000_000).toFixed(1);
  console.log(
    `${layer}: ${count} seeds from ${first}, ${hours} simulated hours, ${perMinute} seeds a minute of processor time`,
  );
  const never = points.neverHit(pointsOf[layer]);
  if (never.length > 0) console.log(`${layer}: points never hit: ${never.join(', ')}`);
  hits.addAll(points);
  return good;
}

async function isRepeatable(
  layer: Layer,
  seed: number,
  { workload }: Options,
  first: RunResult,
): Promise<boolean> {
  const second = await runSeed(layer, seed, { workload });
  if (second.hash === first.hash) return true;
  console.log(`invariant 20: seed ${seed} gave ${first.hash}, then ${second.hash}`);
  tellHowToRepeat(layer, seed, workload);
  return false;
}

async function report(
  layer: Layer,
  seed: number,
  { violation }: RunResult,
  options: Options,
): Promise<boolean> {
  if (violation === undefined) return true;
  console.log(`seed ${seed} breaks ${violation.message}`);
  tellHowToRepeat(layer, seed, options.workload);
  if (!options.shrink) return false;
  const { workload } = options;
  const schedule = await shrinkSeed(layer, seed, SHRINK_MS, { workload });
  if (schedule === undefined) return false;
  const path = join(tmpdir(), `sim-${layer}-${seed}.schedule`);
  const text = formatSchedule({
    layer,
    seed,
    workload,
    invariant: violation.invariant,
    schedule,
  });
  writeFileSync(path, text);
  console.log(`shrunk: npm run sim -- --replay ${path}`);
  await replay(layer, seed, schedule, { workload, narrate: console.log });
  return false;
}

function tellHowToRepeat(layer: Layer, seed: number, workload: string | undefined): void {
  const forced = workload === undefined ? '' : ` --workload ${workload}`;
  console.log(`repeat: npm run sim -- ${seed} --layer ${layer}${forced}`);
}

async function replayFile(path: string): Promise<boolean> {
  const { layer, seed, workload, schedule } = parseSchedule(readFileSync(path, 'utf8'));
  const known =
    layers.find((each) => each === layer) ??
    program.error(`error: ${path}: '${layer}' must be one of ${layers}`);
  const result = await replay(known, seed, schedule, { workload, narrate: console.log });
  console.log(`trace hash: ${result.hash}`);
  return result.violation === undefined;
}
