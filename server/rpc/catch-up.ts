/** Lets watchers that are behind catch up in slices, so that nothing else on the loop waits long. */
import type { Clock, Timers } from '../ports.ts';
import { SLICE_MS } from '../time-slice.ts';
import type { Member } from './member.ts';

export function driveCatchUp(
  member: Pick<Member, 'hub' | 'isInstalling'>,
  { clock, timers }: { readonly clock: Clock; readonly timers: Timers },
): void {
  const { hub } = member;
  let isScheduled = false;
  const run = () => {
    if (member.isInstalling) {
      timers.after(SLICE_MS, run);
      return;
    }
    isScheduled = false;
    const endMs = clock.nowMs() + SLICE_MS;
    let hasMore = true;
    try {
      while (hasMore && clock.nowMs() < endMs) hasMore = hub.catchUp();
    } catch {
      // History is damaged: whoever provides it has reported so, and the member ends.
      return;
    }
    if (hasMore) schedule();
  };
  const schedule = () => {
    if (isScheduled) return;
    isScheduled = true;
    timers.soon(run);
  };
  hub.onWork = schedule;
  schedule();
}
