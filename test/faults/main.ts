/** `npm run faults`: faults on real clusters of three processes. See README.md in this folder. */
import { Command } from 'commander';
import { Suite } from '../slow/suite.ts';
import { SeededRandom, seedFrom } from '../support/generators/random.ts';
import type { SystemName } from '../support/servers.ts';
import { runBadInputs } from './bad-input/run.ts';
import { Campaign } from './campaign.ts';
import { probeFacilities } from './facilities.ts';
import { type CatchUpFigure, measureCatchUp } from './figures/catch-up.ts';
import { type GapFigure, measureGaps } from './figures/gap.ts';
import { catchUpTable, gapTable, missedTargets } from './figures/report.ts';
import { cleanAfterOthers } from './ledger.ts';
import { everyNemesis, selection } from './nemeses/catalog.ts';
import type { Nemesis } from './nemeses/nemesis.ts';
import { createNetwork, type NetworkChoice } from './network/network.ts';

type Options = {
  readonly minutes: string;
  readonly store: string;
  readonly network?: string;
  readonly only?: string;
  readonly seed?: string;
  readonly list: boolean;
  readonly badInput: boolean;
  readonly gap: boolean;
  readonly trials: string;
  readonly catchUp: boolean;
  readonly mebibytes: string;
  readonly stores?: string;
  readonly clean: boolean;
};

const options = new Command('faults')
  .description('Faults on real clusters of three processes, and what became of every operation.')
  .option('--minutes <minutes>', 'the selection once, then any of them until the time is over', '3')
  .option('--store <store>', 'conclave or etcd', 'conclave')
  .option(
    '--network <kind>',
    'namespaces or proxies: the best that this machine allows if not said',
  )
  .option('--only <names>', 'only these faults, with commas between')
  .option('--seed <seed>', 'makes the choices of an earlier run')
  .option('--list', 'name every fault and what it needs', false)
  .option('--bad-input', 'only what must not get into a cluster', false)
  .option('--gap', 'measure for how long nothing is served when a leader goes', false)
  .option('--trials <count>', 'of --gap', '50')
  .option('--catch-up', 'measure how fast a member gets a large state', false)
  .option('--mebibytes <size>', 'of --catch-up', '1024')
  .option('--stores <stores>', 'of --gap and --catch-up: conclave,etcd compares them')
  .option('--clean', 'clean up after a harness that was killed', false)
  .parse()
  .opts<Options>();

const store: SystemName = options.store === 'etcd' ? 'etcd' : 'conclave';

function chosenNetwork(): NetworkChoice {
  const { network } = options;
  if (network === undefined || network === 'namespaces' || network === 'proxies') return network;
  throw new Error(`--network must be namespaces or proxies, got ${network}`);
}

function chosenNemeses(): readonly Nemesis[] {
  if (options.only === undefined) return selection;
  return options.only.split(',').map((name) => {
    const found = everyNemesis.find((nemesis) => nemesis.name === name);
    if (found !== undefined) return found;
    throw new Error(`no nemesis ${name}: ${everyNemesis.map((one) => one.name).join(', ')}`);
  });
}

/** The chosen ones once, then any of them until the time is over. */
function* schedule(random: SeededRandom, deadlineMs: number): Generator<Nemesis> {
  const chosen = chosenNemeses();
  yield* chosen;
  const all = options.only === undefined ? everyNemesis : chosen;
  const [first, ...rest] = all;
  while (first !== undefined && performance.now() < deadlineMs) yield random.pick([first, ...rest]);
}

async function runFaults(): Promise<never> {
  const seed = seedFrom(options.seed);
  const suite: Suite = new Suite('faults');
  const facilities = await probeFacilities();
  const network = await createNetwork(chosenNetwork(), facilities);
  console.log(`faults: ${store}, ${network.kind}, seed ${seed}`);
  const campaign = new Campaign({ store, network, facilities, suite, seed });
  const deadlineMs = performance.now() + Number(options.minutes) * 60_000;
  try {
    if (store === 'conclave' && (options.badInput || options.only === undefined))
      await runBadInputs(suite, network);
    if (!options.badInput) {
      for (const nemesis of schedule(new SeededRandom(seed), deadlineMs))
        await campaign.run(nemesis);
      await campaign.runControls();
    }
  } catch (error) {
    suite.fail('the harness', error);
  }
  await campaign.close();
  await network.close();
  suite.finish();
}

function chosenStores(): readonly SystemName[] {
  return (options.stores ?? store).split(',').map((name) => {
    if (name === 'conclave' || name === 'etcd') return name;
    throw new Error(`--stores takes conclave and etcd, got ${name}`);
  });
}

/** Fails when conclave misses what it promises. etcd is there for comparison. */
async function runGap(): Promise<void> {
  const network = await createNetwork(chosenNetwork(), await probeFacilities());
  try {
    const figures: GapFigure[] = [];
    for (const one of chosenStores())
      figures.push(...(await measureGaps(one, network, Number(options.trials))));
    console.log(gapTable(figures));
    const missed = missedTargets(figures.filter((figure) => figure.store === 'conclave'));
    for (const line of missed) console.log(`missed: ${line}`);
    process.exitCode = missed.length === 0 ? 0 : 1;
  } finally {
    await network.close();
  }
}

async function runCatchUp(): Promise<void> {
  const network = await createNetwork(chosenNetwork(), await probeFacilities());
  try {
    const figures: CatchUpFigure[] = [];
    for (const one of chosenStores())
      figures.push(await measureCatchUp(one, network, Number(options.mebibytes)));
    console.log(catchUpTable(figures));
  } finally {
    await network.close();
  }
}

if (options.clean) {
  const cleaned = cleanAfterOthers();
  console.log(cleaned.length === 0 ? 'nothing to clean' : cleaned.join('\n'));
} else if (options.list) {
  for (const { name, needs } of everyNemesis)
    console.log(needs.length === 0 ? name : `${name} (needs ${needs.join(', ')})`);
} else if (options.gap) await runGap();
else if (options.catchUp) await runCatchUp();
else await runFaults();
