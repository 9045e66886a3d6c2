/**
 * One lock, many processes that are killed and frozen at random, and a file whose writer checks the
 * fencing token. Each holder reads a number and writes it back one higher: if two of them could write
 * in turns, an addition would be lost.
 */
import { appendFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { SeededRandom } from '../../support/generators/random.ts';
import { temporaryDirectory } from '../../support/process.ts';
import { type Child, startChild } from './children.ts';

export type LockSettings = { readonly endpoints: readonly string[]; readonly lock: string };
export type Answer = { readonly value: number; readonly accepted: boolean };

type Question =
  | { readonly kind: 'at-work' }
  | { readonly kind: 'read' }
  | { readonly kind: 'write'; readonly token: string; readonly value: number };

export type LockOptions = {
  readonly endpoints: readonly string[];
  readonly workers: number;
  readonly runMs: number;
  readonly random: SeededRandom;
};

/** The rest must be able to take over. */
const frozenMax = 3;

/** The file, and the one who writes to it. */
class GuardedFile {
  readonly path = join(temporaryDirectory('lock'), 'numbers');
  refused = 0;
  writes = 0;
  #newest = 0n;
  #value = 0;

  answer(question: Question): Answer | undefined {
    if (question.kind === 'at-work') return undefined;
    if (question.kind === 'read') return { value: this.#value, accepted: true };
    const token = BigInt(question.token);
    if (token < this.#newest) {
      this.refused += 1;
      return { value: this.#value, accepted: false };
    }
    this.#newest = token;
    this.#value = question.value;
    this.writes += 1;
    appendFileSync(this.path, `${token} ${question.value}\n`);
    return { value: this.#value, accepted: true };
  }
}

export async function lockWithFencing(options: LockOptions): Promise<string> {
  const { endpoints, workers, runMs, random } = options;
  const file = new GuardedFile();
  const settings: LockSettings = { endpoints, lock: `crash-${process.pid}-${Date.now()}` };
  let holder: Child | undefined;
  const start = (): Child => {
    const child = startChild('lock-writer', settings);
    child.process.on('message', (question: Question) => {
      const answer = file.answer(question);
      if (question.kind === 'read') holder = child;
      if (answer && child.process.connected) child.process.send(answer, () => undefined);
    });
    return child;
  };
  const crew = Array.from({ length: workers }, start);
  await Promise.all(crew.map((child) => child.atWork()));
  const untilMs = performance.now() + runMs;
  const frozen = new Map<Child, Promise<void>>();
  let freezes = 0;
  let kills = 0;
  // A run in which no holder came too late has not tried the token: it goes on for a while.
  const triesUntilMs = untilMs + runMs;
  const isOver = () => performance.now() > (file.refused > 0 ? untilMs : triesUntilMs);
  while (!isOver()) {
    await delay(100 + random.below(400));
    // Mostly it hits whoever seems to hold the lock; never one that stands still already.
    const awake = crew.filter((child) => !frozen.has(child));
    const victim =
      holder !== undefined && awake.includes(holder) && random.below(5) > 0
        ? holder
        : awake[random.below(awake.length)];
    if (victim === undefined) continue;
    // After a kill the lock stands still for a while, and a freeze proves nothing.
    if (random.below(6) === 0) {
      await victim.kill();
      crew[crew.indexOf(victim)] = start();
      kills += 1;
    } else if (frozen.size < frozenMax) {
      // Mostly beyond the time to live that the store grants, and what its next holder needs to write.
      const thawed = victim.freeze(2_000 + random.below(3_000));
      frozen.set(
        victim,
        thawed.then(() => void frozen.delete(victim)),
      );
      freezes += 1;
    }
  }
  await Promise.all(frozen.values());
  const before = file.writes;
  // Nobody is left waiting for a holder that is gone.
  const lateMs = performance.now() + 20_000;
  while (file.writes === before) {
    if (performance.now() > lateMs) throw new Error('nobody gets the lock any more');
    await delay(50);
  }
  await Promise.all(crew.map((child) => child.kill()));

  const lines = readFileSync(file.path, 'utf8').trim().split('\n');
  let last = { token: 0n, value: 0 };
  for (const line of lines) {
    const [token = '', value = ''] = line.split(' ');
    const next = { token: BigInt(token), value: Number(value) };
    if (next.token < last.token) throw new Error(`token ${next.token} wrote after ${last.token}`);
    if (next.value !== last.value + 1) {
      throw new Error(`${next.value} (token ${token}) follows ${last.value} (${last.token})`);
    }
    last = next;
  }
  const sections = new Set(lines.map((line) => line.split(' ')[0])).size;
  return `${lines.length} writes under ${sections} tokens, ${file.refused} refused, ${kills} kills, ${freezes} freezes`;
}
