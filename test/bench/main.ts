/**
 * Measures conclave beside etcd on this machine, in one interleaved run: only ratios within a run
 * mean something.
 *
 *   npm run bench -- [--quick] [--json FILE] [--systems conclave,etcd] [--reps 3] [--ms 1500]
 *                    [--rows put,get,txn,lock,watch] [--concurrency 1,16,128,1024] [--members 3]
 *
 * Every member has a process and a fresh directory on disk of its own, and flushes every write, as
 * both do by default; every client has a process of its own. Figures are medians of the repetitions.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { rmSync, statfsSync, writeFileSync } from 'node:fs';
import { cpus, release, tmpdir } from 'node:os';
import { dirname, extname } from 'node:path';
import { parseArgs } from 'node:util';
import { commandExists, processorSecondsOf } from '../support/process.ts';
import { TestCluster } from '../support/servers.ts';
import { within } from '../support/wait.ts';
import type { Task, TaskResult } from './client-process.ts';
import { type RowName, rowNames } from './rows.ts';
import { type BenchSystem, benchSystem } from './systems.ts';
import { printTable, type Sample, summarise } from './table.ts';

const tmpfsMagic = 0x01021994;
const connectTimeoutMs = 20_000;
/** Beyond its duration: creating watchers, warming up, draining. */
const taskOverheadMs = 60_000;

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    json: { type: 'string' },
    systems: { type: 'string', default: 'conclave,etcd' },
    reps: { type: 'string' },
    ms: { type: 'string' },
    rows: { type: 'string', default: rowNames.join(',') },
    concurrency: { type: 'string', default: '1,16,128,1024' },
    members: { type: 'string' },
  },
});

const repetitions = count('reps', options.reps, options.quick ? 1 : 3);
const members = count('members', options.members, 1);
const durationMs = count('ms', options.ms, options.quick ? 400 : 1_500);
const concurrencies = options.concurrency
  .split(',')
  .map((text) => count('concurrency', text, Number.NaN));
const wantedRows = options.rows.split(',').map((name) => {
  const row = rowNames.find((one) => one === name);
  if (row === undefined) throw new Error(`--rows: unknown row ${name}; known are ${rowNames}`);
  return row;
});

const clients = new Set<ChildProcess>();
process.on('exit', () => {
  for (const client of clients) client.kill('SIGKILL');
});

function count(name: string, text: string | undefined, otherwise: number): number {
  const value = text === undefined ? otherwise : Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new Error(`--${name}: must be a whole number above 0, got ${text}`);
  return value;
}

function available(system: BenchSystem): boolean {
  if (system.server !== 'etcd' || commandExists('etcd')) return true;
  console.log(`skipped ${system.name}: etcd is not installed (apt-get install etcd-server)`);
  return false;
}

async function startClient(system: BenchSystem, cluster: TestCluster): Promise<ChildProcess> {
  const program = new URL(`./client-process${extname(import.meta.url)}`, import.meta.url);
  const child = fork(program, [system.name, cluster.endpoints]);
  clients.add(child);
  child.once('exit', () => clients.delete(child));
  const ended = once(child, 'exit').then(([code]) => {
    throw new Error(`the client process of ${system.name} ended with ${code}`);
  });
  ended.catch(() => undefined);
  await within(
    Promise.race([once(child, 'message'), ended]),
    connectTimeoutMs,
    `the client of ${system.name}`,
  );
  return child;
}

/** Processor time of all members. */
const serverSeconds = ({ servers }: TestCluster): number =>
  servers.reduce((sum, server) => sum + processorSecondsOf(server.process.pid), 0);

async function measure(
  system: BenchSystem,
  cluster: TestCluster,
  client: ChildProcess,
  task: Task,
  repetition: number,
): Promise<Sample | undefined> {
  const startSeconds = serverSeconds(cluster);
  const startMs = performance.now();
  client.send(task);
  const [result] = (await within(
    once(client, 'message'),
    task.durationMs + taskOverheadMs,
    `${task.row} at ${task.concurrency} on ${system.name}`,
  )) as [TaskResult];
  if (!result.ok) {
    console.error(`${system.name}, ${task.row} at ${task.concurrency}: ${result.error}`);
    return undefined;
  }
  // Warm-up and measurement load the server alike, so its time is spread over both.
  const seconds = serverSeconds(cluster) - startSeconds;
  const elapsedSeconds = (performance.now() - startMs) / 1_000;
  const operations = result.measurement.operationsPerSecond * elapsedSeconds;
  return {
    ...result.measurement,
    ...{ system: system.name, row: task.row, concurrency: task.concurrency, repetition },
    serverMicroseconds: (seconds * 1e6) / Math.max(1, operations),
  };
}

async function runSystem(system: BenchSystem, row: RowName, repetition: number): Promise<Sample[]> {
  const cluster = await TestCluster.start(system.server, members);
  const client = await startClient(system, cluster);
  const samples: Sample[] = [];
  try {
    for (const concurrency of concurrencies) {
      const sample = await measure(
        system,
        cluster,
        client,
        { row, concurrency, durationMs },
        repetition,
      );
      if (sample !== undefined) samples.push(sample);
    }
  } finally {
    client.kill('SIGKILL');
    await cluster.stop('SIGKILL');
    for (const { dataDirectory } of cluster.servers) {
      rmSync(dirname(dataDirectory), { recursive: true, force: true });
    }
  }
  return samples;
}

const dataFolder = process.env['SLOW_DIR'] ?? tmpdir();
if (statfsSync(dataFolder).type === tmpfsMagic)
  throw new Error(`${dataFolder} is in memory; set SLOW_DIR to a folder on a disk`);
const systems = options.systems.split(',').map(benchSystem).filter(available);
const machine = `${cpus().length} x ${cpus()[0]?.model ?? 'unknown'}, Linux ${release()}, Node ${process.version}`;
console.log(`${machine}, data in ${dataFolder}`);
console.log(
  `${repetitions} repetitions of ${durationMs} ms; members: ${members}; writes are flushed to disk`,
);

const samples: Sample[] = [];
let expected = 0;
for (let repetition = 1; repetition <= repetitions; repetition++)
  // Who goes first changes, so that neither always follows the other's writes.
  for (const row of wantedRows)
    for (const system of repetition % 2 === 0 ? systems.toReversed() : systems) {
      expected += concurrencies.length;
      samples.push(...(await runSystem(system, row, repetition)));
    }

const summaries = summarise(samples);
printTable(
  summaries,
  systems.map((system) => system.name),
);
if (options.json !== undefined)
  writeFileSync(
    options.json,
    `${JSON.stringify({ machine, date: new Date().toISOString(), durationMs, summaries, samples }, null, 2)}\n`,
  );
if (samples.length < expected) {
  console.error(`${expected - samples.length} of ${expected} measurements failed`);
  process.exit(1);
}
process.exit(0);
