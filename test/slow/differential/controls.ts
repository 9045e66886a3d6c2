/**
 * Controls of the comparison itself: a difference planted into etcd's own answers must be found. A
 * comparison that does not find them proves nothing about conclave either.
 */

import { bytes } from '../../support/generators/keyspace.ts';
import type { Step } from '../../support/generators/step.ts';
import type { Suite } from '../suite.ts';
import { type Difference, type Pair, SequenceRun } from './driver.ts';
import type { Outcome, Plain } from './normalise.ts';
import { Side } from './side.ts';
import type { WatchStream } from './watch-stream.ts';

const steps: readonly Step[] = [
  {
    kind: 'watch',
    action: 'create',
    stream: 0,
    historic: false,
    future: false,
    request: () => ({ requestUnion: { $case: 'createRequest', value: { key: bytes('a') } } }),
  },
  { kind: 'call', call: 'put', request: () => ({ key: bytes('a'), value: bytes('1') }) },
  { kind: 'call', call: 'put', request: () => ({ key: bytes('a'), value: bytes('2') }) },
  { kind: 'call', call: 'range', request: () => ({ key: bytes('a') }) },
  { kind: 'call', call: 'put', request: () => ({ key: bytes('') }) },
];

function changed(body: Plain, name: string, value: Plain): Plain {
  return typeof body === 'object' && !Array.isArray(body) ? { ...body, [name]: value } : body;
}

/** Each plant changes the subject's answers in one place. */
const plants: readonly {
  readonly name: string;
  readonly outcome?: (outcome: Outcome) => Outcome;
  readonly stream?: (stream: WatchStream) => void;
}[] = [
  {
    name: 'a wrong count',
    outcome: (outcome) =>
      outcome.ok ? { ok: true, body: changed(outcome.body, 'count', '9n') } : outcome,
  },
  {
    name: 'a header revision that is one too high',
    outcome: (outcome) =>
      outcome.ok
        ? { ok: true, body: changed(outcome.body, 'header', { revision: '999n' }) }
        : outcome,
  },
  {
    name: 'another error message',
    outcome: (outcome) => (outcome.ok ? outcome : { ...outcome, message: 'key is missing' }),
  },
  {
    name: 'another error code',
    outcome: (outcome) => (outcome.ok ? outcome : { ...outcome, code: 2 }),
  },
  { name: 'a lost watch event', stream: (stream) => stream.events.get('0')?.pop() },
  {
    name: 'a watch event delivered twice',
    stream: (stream) => {
      const events = stream.events.get('0');
      const last = events?.at(-1);
      if (last !== undefined) events?.push(last);
    },
  },
];

export async function controls(suite: Suite): Promise<void> {
  const pair: Pair = { reference: await Side.start('etcd'), subject: await Side.start('etcd') };
  const honestCall = pair.subject.call.bind(pair.subject);
  try {
    await suite.check('control: two etcds are equal', async () => {
      const found = await runOnce(pair);
      if (found !== undefined) throw new Error(found.text);
    });
    for (const plant of plants)
      await suite.check(`control: ${plant.name} is found`, async () => {
        pair.subject.call = async (step, symbols) => {
          const outcome = await honestCall(step, symbols);
          for (const stream of pair.subject.streams) plant.stream?.(stream);
          return plant.outcome?.(outcome) ?? outcome;
        };
        const found = await runOnce(pair);
        pair.subject.call = honestCall;
        if (found === undefined) throw new Error('the comparison found nothing');
      });
  } finally {
    await Promise.all([pair.reference.stop(), pair.subject.stop()]);
  }
}

async function runOnce(pair: Pair): Promise<Difference | undefined> {
  const run = await SequenceRun.begin(pair);
  if (run === undefined) throw new Error('the two servers are at different revisions');
  return await run.run(steps);
}
