/**
 * SIGKILL at random moments under load, again and again on the same data: nothing acknowledged may
 * be lost, nothing may happen twice, watchers miss nothing.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { SeededRandom } from '../../support/generators/random.ts';
import { type SystemName, TestServer } from '../../support/servers.ts';
import { waitFor } from '../../support/wait.ts';
import { connectWire, type WireClient } from '../../support/wire-client.ts';
import type { Suite } from '../suite.ts';
import { Load } from './load.ts';
import { Follower } from './log-reader.ts';
import { Verification } from './verification.ts';

const clients = 24;
/** A round with fewer acknowledged operations did not test anything. */
const minAcknowledged = 100;
const maxLoadMs = 400;
/** A clean restart with a comparison of the hashes comes once in so many rounds. */
const cleanRestartEvery = 10;

export async function killLoop(
  suite: Suite,
  system: SystemName,
  seed: number,
  rounds: number,
): Promise<void> {
  const random = new SeededRandom(seed);
  const server = await TestServer.start(system);
  const load = new Load(random.below(2 ** 32));
  const follower = new Follower(server.endpoint, 1n);
  const verification = new Verification(load, 1n, follower);
  let totalAcknowledged = 0;
  let totalOpen = 0;
  for (let round = 1; round <= rounds; round++) {
    const ran = await suite.check(`round ${round}`, async () => {
      await oneRound(server, load, verification, random);
      totalAcknowledged += load.acknowledged;
      totalOpen += load.open;
      if (round % cleanRestartEvery === 0) await cleanRestart(server);
    });
    // The next round would only repeat what this one left behind.
    if (!ran) break;
  }
  console.log(
    `  ${totalAcknowledged} operations acknowledged, ${totalOpen} cut off, ${follower.reconnections} reconnections of the watcher, revision ${verification.revision}`,
  );
  follower.close();
  await server.stop('SIGKILL');
}

async function oneRound(
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
      { timeoutMs: 20_000, intervalMs: 2 },
    );
    if (load.open > 0) throw new Error('an operation failed although nothing was broken yet');
    if (random.chance(0.3)) void compact(client, verification.revision);
    await delay(random.below(maxLoadMs));
    if (load.open > 0) throw new Error('an operation failed although nothing was broken yet');
    const inFlight = load.inFlight;
    await server.stop('SIGKILL');
    await load.stop();
    if (inFlight === 0 || load.open === 0)
      throw new Error(`invalid round: the kill met ${inFlight} operations in flight`);
  } finally {
    client.close();
  }
  server.launch();
  if (random.chance(0.2)) {
    // Recovery must survive being killed, too.
    await delay(random.below(600));
    await server.stop('SIGKILL');
    server.launch();
  }
  await server.ready();
  await verify(server, verification);
}

async function verify(server: TestServer, verification: Verification): Promise<void> {
  const client = connectWire(server.endpoint);
  try {
    await verification.check(client);
  } finally {
    client.close();
  }
}

/** Only up to what was checked: later checks read history from there. The outcome is open. */
async function compact(client: WireClient, revision: bigint): Promise<void> {
  try {
    await client.kv.compact({ revision, physical: true });
  } catch {
    // Killed meanwhile, or compacted there before.
  }
}

async function cleanRestart(server: TestServer): Promise<void> {
  const before = await hash(server);
  const exit = await server.process.kill('SIGTERM');
  server.launch();
  await server.ready();
  const after = await hash(server);
  if (before !== after)
    throw new Error(
      `the hash of the store changed over a clean restart (${JSON.stringify(exit)}): ${before}, then ${after}`,
    );
}

async function hash(server: TestServer): Promise<string> {
  const client = connectWire(server.endpoint);
  try {
    const answer = await client.maintenance.hashKV({ revision: 0n });
    return `revision ${answer.header?.revision}, compacted ${answer.compactRevision}, hash ${answer.hash}`;
  } finally {
    client.close();
  }
}
