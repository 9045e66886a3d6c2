/**
 * What small reads of a client wait for large calls of the same client, over one connection:
 * `node dist/test/bench/fairness.js [seconds]` after `npm run build`. Run by hand, as it has no peer.
 */
import { type Client, connect } from '../../sdk/index.ts';
import { startTestCluster } from './servers/etcd.ts';

const seconds = Number(process.argv[2] ?? 3);
const settleMs = 1_000;
const valueBytes = 900 * 1024;
const listKeys = 10_000;
const listValueBytes = 1_024;
const value = Buffer.alloc(valueBytes, 7);

type Load = {
  readonly title: string;
  readonly callers: number;
  readonly call: (client: Client, caller: number) => Promise<unknown>;
};

const loads: readonly Load[] = [
  { title: 'nothing', callers: 0, call: async () => undefined },
  {
    title: '60 puts of 900 KiB',
    callers: 60,
    call: (client, caller) => client.kv.put(`large/${caller}`, value),
  },
  {
    title: '60 gets of 900 KiB',
    callers: 60,
    call: (client, caller) => client.kv.get(`large/${caller}`),
  },
  { title: '1 list of 10 MB', callers: 1, call: (client) => client.kv.list({ prefix: 'list/' }) },
  { title: '4 lists of 10 MB', callers: 4, call: (client) => client.kv.list({ prefix: 'list/' }) },
];

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function prepare(client: Client): Promise<void> {
  for (let caller = 0; caller < 60; caller += 1) await client.kv.put(`large/${caller}`, value);
  const listValue = Buffer.alloc(listValueBytes, 3);
  for (let start = 0; start < listKeys; start += 500) {
    const puts = Array.from({ length: 500 }, (_, index) =>
      client.kv.put(`list/${start + index}`, listValue),
    );
    await Promise.all(puts);
  }
  await client.kv.put('small', 'x');
}

async function measure(client: Client, { title, callers, call }: Load, way: string): Promise<void> {
  let isOver = false;
  let large = 0;
  const loops = Array.from({ length: callers }, async (_, caller) => {
    while (!isOver) {
      await call(client, caller);
      large += 1;
    }
  });
  await pause(settleMs);
  large = 0;
  const waitsMs: number[] = [];
  const startedMs = performance.now();
  while (performance.now() - startedMs < seconds * 1_000) {
    const askedMs = performance.now();
    await client.kv.get('small');
    waitsMs.push(performance.now() - askedMs);
    await pause(1);
  }
  const tookSeconds = (performance.now() - startedMs) / 1_000;
  const largePerSecond = large / tookSeconds;
  isOver = true;
  await Promise.all(loops);
  waitsMs.sort((a, b) => a - b);
  const at = (share: number) => (waitsMs[Math.floor(waitsMs.length * share)] ?? 0).toFixed(1);
  console.log(
    `${way.padEnd(6)} ${title.padEnd(20)} p50 ${at(0.5).padStart(7)} ms  p99 ${at(0.99).padStart(7)} ms  ` +
      `${largePerSecond.toFixed(1).padStart(7)} large/s`,
  );
}

const cluster = await startTestCluster('conclave', { members: 1 });
try {
  for (const way of ['auto', 'unary'] as const) {
    await using client = await connect({
      endpoints: cluster.endpoints,
      transport: way,
      requestTimeout: '60s',
    });
    await prepare(client);
    for (const load of loads) await measure(client, load, way);
  }
} finally {
  await cluster.stop();
}
