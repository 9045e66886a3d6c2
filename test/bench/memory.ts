/**
 * What a large store costs: loads keys, then reports resident memory, and how long a member takes
 * from its start to its first answer on that data.
 *
 *   node dist/test/bench/memory.js [--keys 1000000] [--system conclave|etcd] [--json FILE]
 *
 * Goals for a million keys of 256 bytes: below 400 MB resident, below 5 s to the first answer.
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { type MemoryUse, memoryOf } from '../support/process.ts';
import { type SystemName, TestServer } from '../support/servers.ts';
import { connectWire, type WireClient } from '../support/wire-client.ts';

const { values: options } = parseArgs({
  options: {
    keys: { type: 'string', default: '1000000' },
    system: { type: 'string', default: 'conclave' },
    json: { type: 'string' },
  },
});

const keys = Number(options.keys);
const system: SystemName = options.system === 'etcd' ? 'etcd' : 'conclave';
const goals = { residentMb: 400, restartMs: 5_000 } as const;
const value = Buffer.alloc(256, 'v');
const putsPerTxn = 100;
const callers = 16;
const quotaFlag = ['--quota-backend-bytes', '8000000000'] as const;

const keyOf = (index: number): Buffer => Buffer.from(`load/${String(index).padStart(9, '0')}`);
const megabytes = (bytes: number): number => Math.round(bytes / 1e6);

async function load(client: WireClient): Promise<void> {
  let next = 0;
  const caller = async (): Promise<void> => {
    while (next < keys) {
      const first = next;
      next += putsPerTxn;
      const count = Math.min(putsPerTxn, keys - first);
      await client.kv.txn({
        success: Array.from({ length: count }, (_, index) => ({
          request: { $case: 'requestPut', value: { key: keyOf(first + index), value } },
        })),
      });
    }
  };
  await Promise.all(Array.from({ length: callers }, caller));
}

function describe(use: MemoryUse): string {
  const { residentBytes, anonymousBytes, fileBytes } = use;
  return `${megabytes(residentBytes)} MB resident (${megabytes(anonymousBytes)} MB own, ${megabytes(fileBytes)} MB mapped files)`;
}

async function verify(client: WireClient): Promise<void> {
  const all = { key: Buffer.from('load/'), rangeEnd: Buffer.from('load0'), countOnly: true };
  const { count } = await client.kv.range(all);
  if (count !== BigInt(keys)) throw new Error(`${count} keys are there, ${keys} were put`);
  const sample = keyOf(Math.floor(keys / 2));
  const { kvs } = await client.kv.range({ key: sample });
  if (kvs[0]?.value.equals(value) !== true) throw new Error('a value is not what was put');
}

const server = await TestServer.start(system, { flags: quotaFlag });
console.log(`${system}, ${keys} keys of ${value.length} B, data in ${server.dataDirectory}`);
const empty = memoryOf(server.process.pid);
console.log(`empty: ${describe(empty)}`);
const client = connectWire(server.endpoint);
const loadStartMs = performance.now();
await load(client);
const loadMs = performance.now() - loadStartMs;
const loaded = memoryOf(server.process.pid);
console.log(`loaded in ${(loadMs / 1_000).toFixed(1)} s: ${describe(loaded)}`);
await verify(client);
client.close();

const restarts: { signal: string; firstAnswerMs: number; use: MemoryUse }[] = [];
for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
  await server.stop(signal);
  const startMs = performance.now();
  server.launch();
  await server.ready(120_000);
  const firstAnswerMs = Math.round(performance.now() - startMs);
  const again = connectWire(server.endpoint);
  await verify(again);
  again.close();
  const use = memoryOf(server.process.pid);
  restarts.push({ signal, firstAnswerMs, use });
  console.log(`after ${signal}: first answer in ${firstAnswerMs} ms, ${describe(use)}`);
}
await server.stop('SIGKILL');

if (options.json !== undefined)
  writeFileSync(
    options.json,
    `${JSON.stringify({ system, keys, loadMs, empty, loaded, restarts }, null, 2)}\n`,
  );
const slowest = Math.max(...restarts.map((one) => one.firstAnswerMs));
const largest = Math.max(loaded.residentBytes, ...restarts.map((one) => one.use.residentBytes));
const met = megabytes(largest) < goals.residentMb && slowest < goals.restartMs;
console.log(
  `goals (${goals.residentMb} MB, ${goals.restartMs} ms): ${met ? 'met' : 'missed'} with ${megabytes(largest)} MB and ${slowest} ms`,
);
process.exit(0);
