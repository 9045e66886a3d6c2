/** Lets watchers that are behind catch up in slices, so that nothing else on the loop waits long. */
import { performance } from 'node:perf_hooks';
import { SLICE_MS } from '../time-slice.ts';
import type { Hub } from '../watch/hub.ts';

export function driveCatchUp(hub: Hub): void {
  let isScheduled = false;
  const run = () => {
    isScheduled = false;
    const endMs = performance.now() + SLICE_MS;
    let hasMore = true;
    try {
      while (hasMore && performance.now() < endMs) hasMore = hub.catchUp();
    } catch {
      // History is damaged: whoever provides it has reported so, and the member ends.
      return;
    }
    if (hasMore) schedule();
  };
  const schedule = () => {
    if (isScheduled) return;
    isScheduled = true;
    setImmediate(run);
  };
  hub.onWork = schedule;
  schedule();
}
