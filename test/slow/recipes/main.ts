/**
 * Recipes on real processes that are killed and frozen.
 *
 *   tsx test/slow/recipes/main.ts [--endpoints host:port,...] [--jobs 10000] [--workers 4]
 *                                 [--seconds 120] [--lock-seconds 20] [--seed N]
 *                                 [--system conclave|etcd] [--only jobs|lock]
 *
 * Without endpoints it starts a store of one member.
 */
import { parseArgs } from 'node:util';
import { SeededRandom, seedFrom } from '../../support/generators/random.ts';
import { TestServer } from '../../support/servers.ts';
import { Suite } from '../suite.ts';
import { jobsWithKilledWorkers } from './jobs.ts';
import { lockWithFencing } from './lock.ts';

const { values: options } = parseArgs({
  options: {
    endpoints: { type: 'string' },
    jobs: { type: 'string', default: '10000' },
    workers: { type: 'string', default: '4' },
    seconds: { type: 'string', default: '120' },
    'lock-seconds': { type: 'string', default: '20' },
    seed: { type: 'string' },
    system: { type: 'string', default: 'conclave' },
    only: { type: 'string' },
  },
});
const seed = seedFrom(options.seed);
const random = new SeededRandom(seed);
const system = options.system === 'etcd' ? 'etcd' : 'conclave';
const server = options.endpoints === undefined ? await TestServer.start(system) : undefined;
const endpoints = options.endpoints?.split(',') ?? (server ? [server.endpoint] : []);
const selected = (part: string): boolean => options.only === undefined || options.only === part;

console.log(`recipes: ${options.endpoints ?? system}, seed ${seed}`);
const suite = new Suite('recipes');
const say = async (run: Promise<string>): Promise<void> => console.log(`       ${await run}`);
if (selected('jobs'))
  await suite.check('jobs survive workers that are killed: none lost, none done twice', () =>
    say(
      jobsWithKilledWorkers({
        endpoints,
        jobs: Number(options.jobs),
        workers: Number(options.workers),
        limitMs: Number(options.seconds) * 1_000,
        random,
      }),
    ),
  );
if (selected('lock'))
  await suite.check(
    'a lock and its fencing tokens protect a file from the killed and the frozen',
    () =>
      say(
        lockWithFencing({
          endpoints,
          workers: 8,
          runMs: Number(options['lock-seconds']) * 1_000,
          random,
        }),
      ),
  );
await server?.stop('SIGKILL');
suite.finish();
