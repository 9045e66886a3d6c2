/** From the call of a candidate that nobody opposes until an observer elsewhere knows the leader. */
import { within } from '../../support/wait.ts';
import {
  coldAndWarm,
  latencies,
  type Measurement,
  repeatUntilWarm,
  type Times,
  warmUpOneByOneMs,
} from '../measure.ts';
import type { Row } from '../row.ts';
import { required, type Task } from '../task.ts';

const rounds = 20;
const quickRounds = 5;
const observedTimeoutMs = 10_000;

const campaigns: Task<Times, Measurement> = {
  name: 'campaign',
  run: async ({ client, connect, space }, { durationMs, isQuick }) => {
    const stand = required(client.campaign, 'campaign');
    const observer = await connect();
    let round = 0;
    const one = async (): Promise<number> => {
      round += 1;
      const name = `${space}${round}`.replaceAll('/', '-');
      let seen: (atMs: number) => void = () => undefined;
      const observed = new Promise<number>((resolve) => {
        seen = resolve;
      });
      const stop = await required(observer.observe, 'observe')(name, () => seen(performance.now()));
      const startMs = performance.now();
      const resign = await stand(name, `candidate of round ${round}`);
      const seenMs = await within(observed, observedTimeoutMs, 'an observer to see the leader');
      await resign();
      await stop();
      return seenMs - startMs;
    };
    let leastMs = 0;
    const measure = async (): Promise<Measurement> => {
      const latenciesMs: number[] = [];
      const count = isQuick ? quickRounds : rounds;
      const endMs = performance.now() + leastMs;
      while (latenciesMs.length < count || performance.now() < endMs) {
        latenciesMs.push(await one());
      }
      return latencies(latenciesMs);
    };
    const measurement = await coldAndWarm(isQuick, measure, async () => {
      await repeatUntilWarm(one, warmUpOneByOneMs);
      // Warm ones are over so soon that a moment's noise could be all of them.
      leastMs = durationMs;
    });
    await observer.close();
    return measurement;
  },
};

export const campaign: Row = {
  name: 'campaign',
  title: 'election: campaign to observed, median',
  tasks: [campaigns],
  cases: [
    {
      members: 1,
      concurrency: 1,
      figure: 'p50Ms',
      peers: ['zookeeper', 'etcd'],
      goal: { kind: 'atMost', limit: 2 },
    },
  ],
  measure: async (stage, settings) => await (await stage.client()).call(campaigns, settings),
};
