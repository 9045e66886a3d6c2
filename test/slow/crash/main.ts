/**
 * Crash tests of one member.
 *
 *   tsx test/slow/crash/main.ts [--rounds 50] [--power-cuts 5] [--io-errors 4] [--seed N]
 *                               [--system conclave|etcd] [--only kill|power|io]
 */
import { parseArgs } from 'node:util';
import { SeededRandom, seedFrom } from '../../support/generators/random.ts';
import type { SystemName } from '../../support/servers.ts';
import { Suite } from '../suite.ts';
import { ioErrors } from './io-error.ts';
import { killLoop } from './kill-loop.ts';
import { powerCuts } from './power-cut.ts';

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '50' },
    'power-cuts': { type: 'string', default: '5' },
    'io-errors': { type: 'string', default: '4' },
    seed: { type: 'string' },
    system: { type: 'string', default: 'conclave' },
    only: { type: 'string' },
  },
});
const system: SystemName = options.system === 'etcd' ? 'etcd' : 'conclave';
const seed = seedFrom(options.seed);
const random = new SeededRandom(seed);
const [killSeed, powerSeed, ioSeed] = [random, random, random].map((one) => one.below(2 ** 32));
const selected = (part: string): boolean => options.only === undefined || options.only === part;

console.log(`crash: ${system}, seed ${seed}`);
const suite = new Suite('crash');
if (selected('kill')) await killLoop(suite, system, killSeed ?? 0, Number(options.rounds));
if (selected('power'))
  await powerCuts(suite, system, powerSeed ?? 0, Number(options['power-cuts']));
if (selected('io')) await ioErrors(suite, system, ioSeed ?? 0, Number(options['io-errors']));
suite.finish();
