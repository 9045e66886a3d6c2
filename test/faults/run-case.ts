/**
 * One nemesis against a cluster under load. The run counts only when the cluster worked before the
 * fault, the fault happened, and the cluster worked again afterwards; then everything that clients
 * and watchers were told is checked.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { waitFor } from '../support/wait.ts';
import { type Nemesis, NotFired, type World } from './nemeses/nemesis.ts';
import type { Verification } from './verification.ts';

const warmUpMs = 1_500;
const minOperationsBefore = 100;
const warmUpTimeoutMs = 15_000;
const recoverTimeoutMs = 30_000;
const afterMs = 2_000;
const minOperationsAfter = 100;
/** After healing, of everything that was asked. */
const minSuccess = 0.95;
/** Connections that broke come back first. */
const settleMs = 500;
const minWritesDuringFault = 5;

/** The run shows nothing, neither good nor bad. It is not green. */
export class InvalidRun extends Error {
  override name = 'InvalidRun';
}

/** Runs one case. Returns a line about it; throws InvalidRun, ViolationError or what went wrong. */
export async function runCase(
  nemesis: Nemesis,
  world: World,
  verification: Verification,
): Promise<string> {
  const { cluster, load } = world;
  const begin = performance.now();
  load.resume();
  await delay(warmUpMs);
  await waitFor(
    'enough operations before the fault',
    () => (load.count(begin).ok >= minOperationsBefore ? true : undefined),
    { timeoutMs: warmUpTimeoutMs, intervalMs: 100 },
  ).catch((error: unknown) => {
    throw new InvalidRun(`the cluster did not work before the fault: ${String(error)}`);
  });
  const brokenAt = performance.now();
  const fault = await nemesis.inject(world).catch(asInvalid);
  await delay(nemesis.holdMs);
  const healingAt = performance.now();
  const evidence = await fault.evidence().catch(asInvalid);
  await fault.heal();
  await cluster.healthy(recoverTimeoutMs);
  await delay(settleMs);
  const healedAt = performance.now();
  await delay(afterMs);
  await waitFor(
    'enough operations after the fault',
    () => (load.count(healedAt).ok >= minOperationsAfter ? true : undefined),
    { timeoutMs: warmUpTimeoutMs, intervalMs: 100 },
  );
  const endedAt = performance.now();
  await load.pause();
  if (nemesis.keepsMajority) checkProgress(world, (brokenAt + healingAt) / 2, healingAt);
  const after = load.count(healedAt, endedAt);
  if (after.ok < minSuccess * after.all)
    throw new InvalidRun(`only ${after.ok} of ${after.all} operations succeeded after healing`);
  const checked = await verification.check();
  const gapMs = Math.round(load.longestWriteGap(brokenAt, healedAt));
  return `${evidence}; no write for ${gapMs} ms; ${checked}`;
}

function asInvalid(error: unknown): never {
  if (error instanceof NotFired) throw new InvalidRun(`the fault did not fire: ${error.message}`);
  throw error;
}

/** With a majority whole, the second half of the fault must see writes. */
function checkProgress({ load }: World, from: number, to: number): void {
  const { writes } = load.count(from, to);
  if (writes < minWritesDuringFault)
    throw new Error(
      `a majority was whole, yet only ${writes} writes succeeded in the second half of the fault`,
    );
}
