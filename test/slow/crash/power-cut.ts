/**
 * Power cuts: the disk under a member under load disappears at a random moment, and what comes back
 * is only what had been flushed. Answers given before the cut are binding; later ones are not, since
 * a write may be answered between the cut and the first error.
 */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { SeededRandom } from '../../support/generators/random.ts';
import { type SystemName, TestServer } from '../../support/servers.ts';
import { waitFor } from '../../support/wait.ts';
import { connectWire } from '../../support/wire-client.ts';
import type { Suite } from '../suite.ts';
import { Load } from './load.ts';
import { LoopDisk } from './loop-disk.ts';
import { Verification } from './verification.ts';

const clients = 24;
const minAcknowledged = 100;
const maxLoadMs = 500;

export async function powerCuts(
  suite: Suite,
  system: SystemName,
  seed: number,
  rounds: number,
): Promise<void> {
  let disk: LoopDisk | undefined;
  let server: TestServer | undefined;
  const random = new SeededRandom(seed);
  const load = new Load(random.below(2 ** 32));
  const verification = new Verification(load, 1n);
  try {
    for (let round = 1; round <= rounds; round++) {
      const ran = await suite.check(`power cut ${round}`, async () => {
        disk ??= await LoopDisk.create();
        server ??= await TestServer.start(system, {
          dataDirectory: join(disk.mountPoint, 'data'),
          logPath: `${disk.mountPoint}.log`,
        });
        await oneCut(disk, server, load, verification, random);
      });
      if (!ran) return;
    }
  } finally {
    await server?.stop('SIGKILL');
    await disk?.unmount().catch(() => undefined);
  }
}

async function oneCut(
  disk: LoopDisk,
  server: TestServer,
  load: Load,
  verification: Verification,
  random: SeededRandom,
): Promise<void> {
  const client = connectWire(server.endpoint);
  try {
    load.start(client, clients);
    await waitFor(
      'enough acknowledged operations',
      () => (load.acknowledged >= minAcknowledged || load.open > 0 ? true : undefined),
      { timeoutMs: 30_000, intervalMs: 2 },
    );
    await delay(random.below(maxLoadMs));
    if (load.open > 0) throw new Error('an operation failed although nothing was broken yet');
    const inFlight = load.inFlight;
    load.cutOff();
    await disk.cutPower();
    await delay(random.below(50));
    await server.stop('SIGKILL');
    await load.stop();
    if (inFlight === 0) throw new Error('invalid round: the cut met no operation in flight');
  } finally {
    client.close();
  }
  await disk.unmount();
  await disk.mount();
  server.launch();
  await server.ready();
  const after = connectWire(server.endpoint);
  try {
    await verification.check(after);
  } finally {
    after.close();
  }
}
