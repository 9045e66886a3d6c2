/** For how long settling a job is tried. */
import { parseDuration } from '../../sdk/options.ts';
import type { Session } from '../../sdk/session.ts';
import { type LinkedSignal, linkedSignal } from '../common/signals.ts';
import { overdue, timedOut } from './claim-errors.ts';
import type { SettlingLimits } from './claim-tenure.ts';

/** Settling starts late (the process was blocked, say) and is still tried for this long. */
const settlingPatienceMs = 2_000;

/**
 * Aborts when settling is over: the caller's patience, the claim's time, or the session.
 *
 * @param validUntilMs when the claim is over, on the client's monotonic clock
 */
export function settlingPatience(
  { client, state, signal: sessionEnds }: Session,
  id: string,
  validUntilMs: number,
  { signal, patience, timeout }: SettlingLimits,
): LinkedSignal {
  const timeoutMs =
    timeout === undefined ? Number.POSITIVE_INFINITY : parseDuration(timeout, 'timeout');
  // A session that ended before does not make a fenced attempt wrong, only unlikely to succeed.
  const link = linkedSignal(signal ?? patience, state === 'lost' ? undefined : sessionEnds);
  const leftMs = validUntilMs - client.clock.monotonicMs();
  const claimMs = state === 'lost' ? settlingPatienceMs : Math.max(settlingPatienceMs, leftMs);
  const tooLate = () => link.abort(timeoutMs < claimMs ? timedOut(id) : overdue(id));
  const cancel = client.clock.setTimer(Math.min(timeoutMs, claimMs), tooLate);
  const unlink = () => {
    cancel();
    link.unlink();
  };
  return { ...link, unlink };
}
