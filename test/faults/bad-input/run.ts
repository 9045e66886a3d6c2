/** Runs every bad input against one cluster, which must serve and keep its data throughout. */
import type { Suite } from '../../slow/suite.ts';
import { FaultCluster } from '../cluster/cluster.ts';
import type { Network } from '../network/network.ts';
import { badInputs } from './checks.ts';

const healTimeoutMs = 30_000;

export async function runBadInputs(suite: Suite, network: Network): Promise<void> {
  const cluster = await FaultCluster.start({ store: 'conclave', network, withDisks: false });
  try {
    const { client } = await cluster.leader();
    const key = Buffer.from('kept');
    await client.kv.put({ key, value: key });
    for (const { name, run } of badInputs) {
      const passed = await suite.check(`refused: ${name}`, async () => {
        await run(cluster);
        await cluster.healthy(healTimeoutMs);
        for (const member of cluster.members) {
          const { kvs } = await member.client.kv.range({ key });
          if (kvs[0]?.value.equals(key) !== true) throw new Error(`${member.name} lost a key`);
        }
      });
      // What is left of the cluster says nothing about the next.
      if (!passed) await cluster.healthy(healTimeoutMs).catch(() => undefined);
    }
  } finally {
    await cluster.close();
  }
}
