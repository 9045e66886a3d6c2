/**
 * Differential test: random sequences of requests against etcd and against conclave, compared step
 * by step.
 *
 *   tsx test/slow/differential/main.ts [--minutes 1.5] [--seed N] [--sequence I] [--subject etcd]
 *
 * With `--sequence` only that sequence of the seed is run, which replays a failure.
 */
import { parseArgs } from 'node:util';
import { SeededRandom, seedFrom } from '../../support/generators/random.ts';
import { type SequenceShape, sequence } from '../../support/generators/sequences.ts';
import type { Step } from '../../support/generators/step.ts';
import { commandExists } from '../../support/process.ts';
import type { SystemName } from '../../support/servers.ts';
import { Suite } from '../suite.ts';
import { controls } from './controls.ts';
import { directedChecks } from './directed.ts';
import type { Finding } from './pair.ts';
import { PairOfServers } from './pair.ts';
import { shrink } from './shrink.ts';

const shape: SequenceShape = { minSteps: 10, maxSteps: 60, watchShare: 0.4 };
const shrinkBudgetMs = 30_000;
/** Beyond this many different findings the rest only costs time. */
const maxFindings = 12;

const { values: options } = parseArgs({
  options: {
    minutes: { type: 'string', default: '1.5' },
    seed: { type: 'string' },
    sequence: { type: 'string' },
    subject: { type: 'string', default: 'conclave' },
  },
});

const suite = new Suite('differential');
const seed = seedFrom(options.seed);
const subject: SystemName = options.subject === 'etcd' ? 'etcd' : 'conclave';
console.log(`differential: etcd against ${subject}, seed ${seed}`);
if (!commandExists('etcd')) {
  suite.fail('etcd', 'etcd is not installed: apt-get install etcd-server');
  suite.finish();
}

/** Sequences are drawn one after the other from the seed, each from a generator of its own. */
function* sequences(): Generator<Step[], never> {
  const random = new SeededRandom(seed);
  for (;;) yield sequence(random.fork(), shape);
}

const servers = new PairOfServers(subject);
const findings = new Map<string, number>();

async function report(index: number, steps: readonly Step[], found: Finding): Promise<void> {
  const signature = found.difference.signature;
  const count = (findings.get(signature) ?? 0) + 1;
  findings.set(signature, count);
  const replay = `npx tsx test/slow/differential/main.ts --subject ${subject} --seed ${seed} --sequence ${index}`;
  if (count > 1) {
    suite.fail(`sequence ${index}: again ${signature}`, `replay: ${replay}`);
    return;
  }
  // What is told from different revisions can read differently in the second run.
  const again = await servers.run(steps);
  if (again === undefined) {
    suite.fail(
      `sequence ${index}`,
      `${found.difference.text}\nnot reproduced: the second run was equal\nreplay: ${replay}`,
    );
    return;
  }
  findings.set(again.difference.signature, count);
  const shortest = await shrink(servers, steps, again, shrinkBudgetMs);
  const requests = shortest.finding.trace.map(
    ({ step, request }) =>
      `  ${step.kind === 'call' ? step.call : `watch on stream ${step.stream}`} ${JSON.stringify(request)}`,
  );
  suite.fail(
    `sequence ${index}: ${signature}`,
    [shortest.finding.difference.text, 'requests:', ...requests, `replay: ${replay}`].join('\n'),
  );
}

async function runRandom(): Promise<void> {
  const deadlineMs = performance.now() + Number(options.minutes) * 60_000;
  let index = 0;
  let steps = 0;
  let passed = 0;
  for (const next of sequences()) {
    if (performance.now() > deadlineMs || findings.size >= maxFindings) break;
    const found = await servers.run(next);
    if (found === undefined) passed += 1;
    else await report(index, next, found);
    steps += next.length;
    index += 1;
  }
  console.log(`  ${passed} of ${index} sequences equal, ${steps} steps`);
  if (passed > 0) suite.pass(`${passed} random sequences`);
  if (index === 0) suite.fail('random sequences', 'not one sequence ran');
}

async function replayOne(wanted: number): Promise<void> {
  let index = 0;
  for (const next of sequences()) {
    if (index++ < wanted) continue;
    const found = await servers.run(next);
    if (found === undefined) suite.pass(`sequence ${wanted}`);
    else await report(wanted, next, found);
    return;
  }
}

if (options.sequence === undefined) {
  await controls(suite);
  await directedChecks(suite, subject);
  await runRandom();
} else await replayOne(Number(options.sequence));
await servers.replace();
suite.finish();
