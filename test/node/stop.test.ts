import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { startMember } from '../../server/index.ts';
import { connectWire } from '../support/wire-client.ts';

test('a member that is closed under load closes cleanly, keeps what it acknowledged, and starts again', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'stop-'));
  try {
    const acknowledged = new Set<string>();
    for (let round = 0; round < 3; round++) {
      const member = await startMember({ directory });
      const client = connectWire(member.endpoints[0] ?? '');
      for (const key of acknowledged) {
        const { kvs } = await client.kv.range({ key: Buffer.from(key), serializable: true });
        expect(kvs).toHaveLength(1);
      }
      let stopping = false;
      const writer = async (lane: number): Promise<void> => {
        for (let i = 0; !stopping; i++) {
          const key = `${round}/${lane}/${i}`;
          try {
            await client.kv.put({ key: Buffer.from(key) });
            acknowledged.add(key);
          } catch {
            return;
          }
        }
      };
      const writers = Array.from({ length: 8 }, (_, lane) => writer(lane));
      const before = acknowledged.size;
      await expect.poll(() => acknowledged.size).toBeGreaterThan(before + 50);
      await member.close();
      stopping = true;
      await Promise.all(writers);
      client.close();
    }
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
