import fc from 'fast-check';
import { Histogram, Registry } from 'prom-client';
import { expect, test } from 'vitest';
import { Exposition } from '../../server/http/exposition.ts';
import { Distribution, type Measure, Tally } from '../../server/measures.ts';
import { waitFor } from '../support/wait.ts';

const expose = async (...measures: readonly Measure[]): Promise<string> =>
  (await new Exposition({ measures, processMetrics: false }).expose()).text;

const bounds = [0.5, 1, 4];
const text = { name: 'seconds', help: 'Time it took.' };

test('a distribution is shown as a histogram of the library would be', async () => {
  const values = fc.oneof(fc.constantFrom(...bounds), fc.double({ min: 0, max: 8, noNaN: true }));
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(values, fc.constantFrom('a', 'b'))),
      async (observations) => {
        const registers = [new Registry()] as const;
        const plain = new Histogram({ ...text, buckets: bounds, registers: [...registers] });
        const labelled = new Histogram({
          ...text,
          name: 'labelled',
          labelNames: ['To'],
          buckets: bounds,
          registers: [...registers],
        });
        const ours = [new Distribution(bounds), new Distribution(bounds, 'To')] as const;
        for (const [value, To] of observations) {
          plain.observe(value);
          ours[0].observe(value);
          labelled.observe({ To }, value);
          ours[1].observe(value, { To });
        }
        const shown = await expose(
          { ...text, type: 'histogram', distribution: ours[0] },
          { ...text, name: 'labelled', type: 'histogram', distribution: ours[1] },
        );
        expect(shown).toBe(await registers[0].metrics());
      },
    ),
  );
});

test('a tally shows the numbers of now, and 0 from the beginning where it has no labels', async () => {
  const plain = new Tally();
  const byPeer = new Tally('To');
  const exposition = new Exposition({
    measures: [
      { type: 'counter', name: 'plain', help: 'All.', read: () => plain },
      { type: 'counter', name: 'sent', help: 'Sent.', labelNames: ['To'], read: () => byPeer },
      { type: 'gauge', name: 'under_way', help: 'Now.', labelNames: ['To'], read: () => byPeer },
    ],
    processMetrics: false,
  });
  const lines = async (): Promise<readonly string[]> =>
    (await exposition.expose()).text.split('\n').filter((line) => /^[a-z]/.test(line));
  expect(await lines()).toEqual(['plain 0']);
  plain.add();
  byPeer.add({ To: 'b' }, 3);
  byPeer.add({ To: 'b' }, -1);
  for (let scrape = 0; scrape < 2; scrape += 1) {
    expect(await lines()).toEqual(['plain 1', 'sent{To="b"} 2', 'under_way{To="b"} 2']);
  }
});

test('a delay of the event loop that was not measured yet is not made up', async () => {
  const exposition = new Exposition({ measures: [], processMetrics: true });
  const delays = async (): Promise<readonly number[]> =>
    [
      ...(await exposition.expose()).text.matchAll(
        /^nodejs_eventloop_lag_[a-z0-9]+_seconds (.*)/gm,
      ),
    ].map(([, value]) => Number(value));
  expect(await delays()).toEqual([]);
  // A scrape begins the measurement anew, which takes two ticks of 10 ms.
  const intervalMs = 100;
  await waitFor('a measured delay', async () => (await delays()).length > 0 || undefined, {
    intervalMs,
  });
  // Between two scrapes of one moment as little is measured.
  for (const value of [...(await delays()), ...(await delays())]) {
    expect(value).toBeGreaterThanOrEqual(0);
    expect(value).toBeLessThan(60);
  }
});
