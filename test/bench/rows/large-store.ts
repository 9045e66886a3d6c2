/** A million keys of 256 bytes: the memory they take, and the way back after SIGKILL. */
import { rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { memoryOf } from '../../support/process.ts';
import { TestServer } from '../../support/servers.ts';
import { connectWire, type WireClient } from '../../support/wire-client.ts';
import { launchAndPut, systemNameOf } from '../first-answer.ts';
import type { Row } from '../row.ts';
import { valueBytes } from './loop.ts';

const quickKeys = 20_000;
const putsPerTxn = 100;
const callers = 16;
/** etcd's default of 2 GB is less than it needs for the history of the load. */
const quotaFlag = ['--quota-backend-bytes', '8000000000'] as const;

const value = Buffer.alloc(valueBytes, 'v');
const keyOf = (index: number): Buffer => Buffer.from(`load/${String(index).padStart(9, '0')}`);

async function load(client: WireClient, keys: number): Promise<void> {
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

async function verify(client: WireClient, keys: number): Promise<void> {
  const all = { key: Buffer.from('load/'), rangeEnd: Buffer.from('load0'), countOnly: true };
  const { count } = await client.kv.range(all);
  if (count !== BigInt(keys)) throw new Error(`${count} keys are there, ${keys} were put`);
  const { kvs } = await client.kv.range({ key: keyOf(Math.floor(keys / 2)) });
  if (kvs[0]?.value.equals(value) !== true) throw new Error('a value is not what was put');
}

export const largeStore: Row = {
  name: 'large-store',
  title: '1 M keys',
  driver: 'bench',
  repetitionsMax: 3,
  cases: [
    {
      workload: 'recovery',
      title: 'recovery after SIGKILL',
      members: 1,
      concurrency: 1_000_000,
      quickConcurrency: quickKeys,
      figure: 'elapsedMs',
      peers: ['etcd'],
      goal: { kind: 'atMost', limit: 1_000 },
    },
    {
      workload: 'memory',
      title: 'resident memory, keys of 256 B',
      members: 1,
      concurrency: 1_000_000,
      quickConcurrency: quickKeys,
      figure: 'residentMb',
      peers: ['etcd'],
      goal: { kind: 'atMost', limit: 200 },
    },
  ],
  measure: async ({ system }, { concurrency: keys }) => {
    const server = await TestServer.start(systemNameOf(system), { flags: quotaFlag });
    try {
      const client = connectWire(server.endpoint);
      await load(client, keys);
      const loaded = memoryOf(server.process.pid);
      client.close();
      await server.stop('SIGKILL');
      const { elapsedMs } = await launchAndPut(server);
      const again = connectWire(server.endpoint);
      await verify(again, keys);
      again.close();
      // Whichever is more: what it grew to while it was loaded, or what it needs after a restart.
      const restarted = memoryOf(server.process.pid);
      return {
        elapsedMs,
        residentMb: Math.max(loaded.residentBytes, restarted.residentBytes) / 1e6,
        anonymousMb: Math.max(loaded.anonymousBytes, restarted.anonymousBytes) / 1e6,
      };
    } finally {
      await server.stop('SIGKILL');
      rmSync(dirname(server.dataDirectory), { recursive: true, force: true });
    }
  },
};
