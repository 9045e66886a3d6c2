/**
 * The log of one member loses its end or has a wrong byte. It must come back without having forgotten
 * anything it promised, or refuse and say what to do; then it is replaced by a member with an empty
 * disk, the way an operator would.
 */
import {
  closeSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import type { SeededRandom } from '../../support/generators/random.ts';
import { waitFor } from '../../support/wait.ts';
import type { FaultMember } from '../cluster/member.ts';
import { replaceMember } from '../cluster/replace.ts';
import { type Nemesis, NotFired, type World } from './nemesis.ts';

/** How far from the end of the log the damage may be. */
const reachBytes = 16 * 1024;
const decideTimeoutMs = 20_000;

const damage = (
  name: string,
  harm: (path: string, endOfData: number, random: SeededRandom) => string,
): Nemesis => ({
  ...{ name, needs: [], holdMs: 1_000, keepsMajority: true },
  async inject(world) {
    const [victim] = await world.cluster.followers();
    if (victim === undefined) throw new NotFired('there is no follower');
    await victim.kill('SIGKILL');
    const path = newestLogFile(victim.dataDirectory);
    const done = harm(path, endOfData(path), world.random);
    return {
      evidence: async () => `${victim.name}: ${done}`,
      heal: () => comeBack(world, victim),
    };
  },
});

export const truncatedLog = damage('wal-truncated', (path, end, random) => {
  const lost = random.between(1, Math.min(reachBytes, end - 1));
  truncateSync(path, end - lost);
  return `cut the last ${lost} bytes`;
});

/** As if the end had never been written: nothing in the log itself can tell. */
export const forgottenLog = damage('wal-forgotten', (path, end, random) => {
  const lost = random.between(1, Math.min(reachBytes, end - 1));
  const file = openSync(path, 'r+');
  writeSync(file, Buffer.alloc(lost), 0, lost, end - lost);
  closeSync(file);
  return `zeroed the last ${lost} bytes`;
});

export const corruptedLog = damage('wal-corrupted', (path, end, random) => {
  const offset = end - random.between(1, Math.min(reachBytes, end - 1));
  const byte = Buffer.alloc(1);
  const file = openSync(path, 'r+');
  readSync(file, byte, 0, 1, offset);
  writeSync(file, Buffer.from([(byte[0] ?? 0) ^ 0x5a]), 0, 1, offset);
  closeSync(file);
  return `changed the byte at ${offset} of ${end}`;
});

/** Repaired or refused: what it decides shows in whether it serves or ends. */
async function comeBack(world: World, victim: FaultMember): Promise<void> {
  world.cluster.restart(victim);
  const outcome = await waitFor(
    `${victim.name} to serve or to refuse`,
    async () => {
      if (!victim.isRunning) return 'refused';
      await victim.ready(1_000);
      return 'serves';
    },
    { timeoutMs: decideTimeoutMs, intervalMs: 50 },
  );
  if (outcome === 'serves') return;
  console.log(`         ${victim.name} refused: ${victim.process.logTail(1).slice(0, 300)}`);
  await replaceMember(world.cluster, victim);
}

function newestLogFile(folder: string): string {
  const files = (readdirSync(folder, { recursive: true }) as string[])
    .filter((name) => /(^|\/)wal\/[^/]*$/.test(name) && !/tmp|prepared|lock/i.test(name))
    .map((name) => join(folder, name))
    .filter((path) => statSync(path).isFile() && endOfData(path) > 1);
  const newest = files.sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs)[0];
  if (newest === undefined) throw new NotFired(`no log file below ${folder}`);
  return newest;
}

/** Log files are allocated ahead and end in zeros. */
function endOfData(path: string): number {
  const content = readFileSync(path);
  let end = content.length;
  while (end > 0 && content[end - 1] === 0) end -= 1;
  return end;
}
