import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

const POLL_MS = 5;
const GIVE_UP_MS = 2_000;

/** Sends the signal to every process of the group. False when the group has no process left. */
export function signalGroup(group: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(-group, signal);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
    throw error;
  }
}

/**
 * Whether only zombies are left: dead processes that a first process which does not reap keeps in
 * the table. They run no code. Only Linux can tell; elsewhere the answer is no.
 */
function onlyZombies(group: number): boolean {
  if (process.platform !== 'linux') return false;
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    let stat: string;
    try {
      stat = readFileSync(`/proc/${entry}/stat`, 'utf8');
    } catch {
      continue; // ended meanwhile
    }
    // "pid (name) state ppid pgrp …": the name may hold spaces and parentheses.
    const [state, , processGroup] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (Number(processGroup) === group && state !== 'Z' && state !== 'X') return false;
  }
  return true;
}

/**
 * Resolves once no process of the killed group runs any more. A process in uninterruptible sleep
 * (a dead network disk) cannot be waited for: after two seconds the answer is false.
 */
export async function groupGone(group: number): Promise<boolean> {
  for (let waitedMs = 0; waitedMs < GIVE_UP_MS; waitedMs += POLL_MS) {
    if (!signalGroup(group, 'SIGKILL')) return true;
    if (onlyZombies(group)) return true;
    await sleep(POLL_MS);
  }
  return false;
}
