/** Renews 10,000 leases once, as fast as the client can. */
import { coldAndWarm, type Measurement, median, repeatUntilWarm, warmUpMs } from '../measure.ts';
import type { Row } from '../row.ts';
import { required, type Task } from '../task.ts';

const rounds = 3;

type RenewArgument = { readonly leases: number; readonly isQuick: boolean };

const renewAll: Task<RenewArgument, Measurement> = {
  name: 'keep-alive',
  run: async ({ client }, { leases, isQuick }) => {
    const renew = await required(client.grantLeases, 'grantLeases')(leases);
    const measure = async (): Promise<Measurement> => {
      const elapsedMs: number[] = [];
      for (let round = 0; round < rounds; round += 1) {
        const startMs = performance.now();
        await renew();
        elapsedMs.push(performance.now() - startMs);
      }
      return { elapsedMs: median(elapsedMs) };
    };
    return await coldAndWarm(isQuick, measure, () => repeatUntilWarm(renew, warmUpMs));
  },
};

export const keepAlive: Row = {
  name: 'keep-alive',
  title: 'renew so many leases once',
  tasks: [renewAll],
  cases: [
    {
      members: 1,
      concurrency: 10_000,
      quickConcurrency: 1_000,
      figure: 'elapsedMs',
      peers: ['etcd'],
      goal: { kind: 'atMost', limit: 50 },
    },
  ],
  measure: async (stage, { concurrency, isQuick }) =>
    await (await stage.client()).call(renewAll, { leases: concurrency, isQuick }),
};
