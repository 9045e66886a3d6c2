/** Long work is done in slices, so that requests, ticks and heartbeats keep their time. */
import type { Timers } from './ports.ts';

/** How long background work and long reads may hold the event loop. */
export const SLICE_MS = 4;

/** Lets everything else that is due run once. */
export const yieldTurn = (timers: Timers): Promise<void> =>
  new Promise((resume) => {
    timers.soon(resume);
  });

export const sleep = (timers: Timers, delayMs: number): Promise<void> =>
  new Promise((resume) => {
    timers.after(delayMs, resume);
  });
