/** From the call of a candidate that nobody opposes until an observer elsewhere knows the leader. */
import { within } from '../../support/wait.ts';
import { latencies } from '../measure.ts';
import type { Row } from '../row.ts';
import { required, type Task } from '../task.ts';

const rounds = 20;
const quickRounds = 5;
const observedTimeoutMs = 10_000;

const campaigns: Task<{ readonly rounds: number }, { p50Ms: number; p99Ms: number }> = {
  name: 'campaign',
  run: async ({ client, connect, space }, argument) => {
    const stand = required(client.campaign, 'campaign');
    const observer = await connect();
    const latenciesMs: number[] = [];
    for (let round = 0; round < argument.rounds; round += 1) {
      const name = `${space}${round}`.replaceAll('/', '-');
      let seen: (atMs: number) => void = () => undefined;
      const observed = new Promise<number>((resolve) => {
        seen = resolve;
      });
      const stop = await required(observer.observe, 'observe')(name, () => seen(performance.now()));
      const startMs = performance.now();
      const resign = await stand(name, `candidate of round ${round}`);
      const seenMs = await within(observed, observedTimeoutMs, 'an observer to see the leader');
      latenciesMs.push(seenMs - startMs);
      await resign();
      await stop();
    }
    await observer.close();
    return latencies(latenciesMs);
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
  measure: async (stage, { isQuick }) =>
    await (await stage.client()).call(campaigns, { rounds: isQuick ? quickRounds : rounds }),
};
