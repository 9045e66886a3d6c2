/**
 * Many jobs, and workers that are killed at random. None may be lost, none acknowledged twice, and
 * every result must be that of its job. What was acknowledged is read off the store's own history.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { connect } from '../../../recipes/index.ts';
import { queueKeys } from '../../../recipes/names.ts';
import type { SeededRandom } from '../../support/generators/random.ts';
import { type Child, startChild } from './children.ts';

export type JobSettings = { readonly endpoints: readonly string[]; readonly queue: string };

export type JobsOptions = {
  readonly endpoints: readonly string[];
  readonly jobs: number;
  readonly workers: number;
  readonly limitMs: number;
  readonly random: SeededRandom;
};

/** What a handler returns for a payload. */
export const resultOf = (data: number): number => (data * 2_654_435_761) % 4_294_967_291;

const batch = 100;

export async function jobsWithKilledWorkers(options: JobsOptions): Promise<string> {
  const { endpoints, jobs, workers, limitMs, random } = options;
  const name = `crash-${process.pid}-${Date.now()}`;
  const settings: JobSettings = { endpoints, queue: name };
  await using conclave = await connect([...endpoints]);
  const session = await conclave.session();
  const queue = session.queue<number>(name);
  const { revision } = await conclave.kv.list({ prefix: queueKeys(name).root }, { limit: 1 });
  const watching = new AbortController();
  const finished = new Map<string, number>();
  const watched = (async () => {
    for await (const event of queue.events({ from: revision + 1n, signal: watching.signal })) {
      if (event.type === 'gap') throw new Error('history was compacted while it was read');
      if (event.type === 'finished') finished.set(event.id, (finished.get(event.id) ?? 0) + 1);
      if (event.type === 'dead') throw new Error(`job ${event.id} died: ${event.reason}`);
    }
  })();
  let failure: unknown;
  watched.catch((error: unknown) => {
    failure = error;
  });

  const crew: Child[] = Array.from({ length: workers }, () => startChild('job-worker', settings));
  await crew[0]?.atWork();
  const payloads = new Map<string, number>();
  const push = async () => {
    for (let first = 0; first < jobs; first += batch) {
      const data = Array.from(
        { length: Math.min(batch, jobs - first) },
        (_, index) => first + index,
      );
      const pushed = await queue.pushMany(data.map((number) => ({ data: number })));
      for (const [index, { id }] of pushed.entries()) payloads.set(id, data[index] ?? -1);
    }
  };
  const pushing = push();
  let kills = 0;
  const untilMs = performance.now() + limitMs;
  while (finished.size < jobs && failure === undefined) {
    if (performance.now() > untilMs) {
      const stats = JSON.stringify(await queue.stats());
      throw new Error(`after ${limitMs} ms ${finished.size} of ${jobs} are finished: ${stats}`);
    }
    // Starting a process costs more than a hundred jobs: most of the time belongs to the work.
    await delay(800 + random.below(1_200));
    const victim = random.below(crew.length);
    await crew[victim]?.kill();
    crew[victim] = startChild('job-worker', settings);
    kills += 1;
  }
  if (failure !== undefined) throw failure;
  await pushing;
  // Whoever acknowledges a second time would have to do it now.
  await delay(1_000);
  await Promise.all(crew.map((child) => child.kill()));
  watching.abort();
  await watched;

  const twice = [...finished].filter(([, times]) => times !== 1);
  if (twice.length > 0) throw new Error(`finished more than once: ${JSON.stringify(twice)}`);
  const { result, job } = queueKeys(name);
  let results = 0;
  for await (const { key, value } of conclave.kv.iterate({ prefix: result })) {
    const id = key.slice(result.length);
    const data = payloads.get(id);
    const stored = JSON.parse(Buffer.from(value).toString());
    if (data === undefined || stored !== resultOf(data)) {
      throw new Error(`the result of job ${id} (${data}) is ${stored}`);
    }
    results += 1;
  }
  if (results !== jobs) throw new Error(`${results} results of ${jobs} jobs`);
  const left = await conclave.kv.count({ prefix: job });
  if (left !== 0n) throw new Error(`${left} jobs are left`);
  await conclave.kv.delete({ prefix: queueKeys(name).root });
  return `${jobs} jobs, ${kills} kills`;
}
