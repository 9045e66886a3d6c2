import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/** Whether the process exists and is not a zombie. */
export function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const state = stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3);
    return state !== 'Z' && state !== 'X';
  } catch {
    return false;
  }
}

/** Polls until the condition yields something, or fails by name after `withinMs`. */
export async function eventually<T>(
  what: string,
  condition: () => T | undefined | false,
  withinMs = 10_000,
): Promise<T> {
  const deadline = performance.now() + withinMs;
  for (;;) {
    const value = condition();
    if (value !== undefined && value !== false) return value;
    if (performance.now() > deadline) throw new Error(`waited ${withinMs} ms for ${what}`);
    await sleep(10);
  }
}

/** The numbers in a file, one a line, once there are at least `count`. */
export function numbersIn(path: string, count: number): number[] | undefined {
  try {
    const text = readFileSync(path, 'utf8');
    const numbers = text
      .slice(0, text.lastIndexOf('\n') + 1)
      .split('\n')
      .filter((line) => line !== '')
      .map(Number);
    return numbers.length >= count ? numbers : undefined;
  } catch {
    return undefined;
  }
}
