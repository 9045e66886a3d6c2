/** Waiting for a signal as for anything else. */
import { onAbort } from '../common/signals.ts';

/** Resolves when the signal aborts, or at once when it has. */
export const untilAborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    onAbort(signal, resolve);
  });
