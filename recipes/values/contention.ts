/** Bounded optimistic retries: the first at once, later ones after a jittered pause. */
import { ConclaveError, invalidArgument } from '../../sdk/errors.ts';
import type { RecipeContext } from '../common/context.ts';
import { fullJitterMs, pause } from '../common/repeat.ts';
import { linkedSignal } from '../common/signals.ts';
import type { Measured } from '../metrics.ts';

export type Contention = {
  /** How often to try again after another writer came first. @default 32 */
  readonly retries?: number;
};

/** @throws ConclaveError INVALID_ARGUMENT */
export function parseRetries({ retries = 32 }: Contention): number {
  if (!Number.isSafeInteger(retries) || retries < 0) {
    throw invalidArgument('retries', retries, 'a whole number, 0 or more');
  }
  return retries;
}

/**
 * Calls `attempt` until it has a result, and reports each conflict. An attempt that was 'unread' was
 * made without knowing what it has to change, and now knows: nobody was in its way, so it is not
 * reported and never the last.
 *
 * @throws ConclaveError CONFLICT when others came first each time, ABORTED, SESSION_LOST, and whatever
 *   `attempt` throws
 */
export async function untilUncontended<T>(
  { session, metrics }: RecipeContext,
  subject: Measured,
  retries: number,
  signal: AbortSignal | undefined,
  attempt: () => Promise<T | 'conflict' | 'unread'>,
): Promise<T> {
  const { clock, random } = session.client;
  for (let tried = 0; ; tried++) {
    const result = await attempt();
    if (result !== 'conflict' && result !== 'unread') return result;
    if (result === 'conflict') metrics.contended({ ...subject, kind: 'conflict' });
    if (result === 'conflict' && tried >= retries) {
      const what = `${subject.recipe} '${subject.name}'`;
      throw new ConclaveError('CONFLICT', `Others changed ${what} first, ${tried + 1} times`);
    }
    if (tried === 0) continue;
    const stop = linkedSignal(session.signal, signal);
    try {
      await pause(clock, fullJitterMs(tried - 1, random), stop.signal);
    } catch (error) {
      session.assertLive();
      throw error;
    } finally {
      stop.unlink();
    }
  }
}
