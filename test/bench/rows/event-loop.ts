/** How late the server's event loop is while 128 callers put as fast as they can. */
import { existsSync, readFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import { temporaryDirectory } from '../../support/process.ts';
import { waitFor } from '../../support/wait.ts';
import { type EventLoopDelay, probeSignal, probeVariable } from '../event-loop-probe.ts';
import { coldAndWarm, type Measurement, settleMs, warmUpMs } from '../measure.ts';
import type { Row } from '../row.ts';
import { putLoop } from './put.ts';

export const eventLoop: Row = {
  name: 'event-loop',
  title: "server's event-loop delay p99, putting",
  driver: 'bench',
  cases: [
    {
      members: 1,
      concurrency: 128,
      figure: 'p99Ms',
      peers: [],
      goal: { kind: 'atMost', limit: 20 },
    },
  ],
  measure: async (stage, { concurrency, durationMs, isQuick }) => {
    const report = join(temporaryDirectory('event-loop'), 'delays');
    const probe = new URL(`../event-loop-probe${extname(import.meta.url)}`, import.meta.url);
    const { pids } = await stage.cluster({
      environment: { [probeVariable]: report, NODE_OPTIONS: `--import ${probe.href}` },
    });
    const client = await stage.client();
    let reports = 0;
    /** The delays while clients put for so long. */
    const putFor = async (forMs: number): Promise<Measurement> => {
      await client.call(putLoop, { concurrency, durationMs: forMs, isQuick: true });
      for (const pid of pids) process.kill(pid, probeSignal);
      const next = reports;
      reports += 1;
      return await waitFor('the delays of the event loop', () => linesOf(report)[next]);
    };
    await putFor(settleMs);
    const measure = (): Promise<Measurement> => putFor(durationMs);
    return await coldAndWarm(isQuick, measure, () => putFor(warmUpMs));
  },
};

function linesOf(path: string): EventLoopDelay[] {
  if (!existsSync(path)) return [];
  const lines = readFileSync(path, 'utf8').split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line) as EventLoopDelay);
}
