/** Long work is done in slices, so that requests, ticks and heartbeats keep their time. */

/** How long background work and long reads may hold the event loop. */
export const SLICE_MS = 4;

/** Lets everything else that is due run once. */
export const yieldTurn = (): Promise<void> =>
  new Promise((resume) => {
    setImmediate(resume);
  });
