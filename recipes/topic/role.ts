/**
 * What only one client at a time does for a topic: consume a durable subscription, feed a group,
 * remove what is not kept. Those who would like to stand in line; the next one takes over when the
 * first leaves or its session ends, and whoever lost the role through its session lines up again.
 */
import { ConclaveError, isConclaveError } from '../../sdk/errors.ts';
import { fullJitterMs, mayRepeat, pause } from '../common/repeat.ts';
import { type Holding, waitForHold } from '../line/holding.ts';
import { encodeLineRecord } from '../line/line-record.ts';
import { randomId } from '../names.ts';
import type { TopicCore } from './topic-core.ts';

/** What went on for this long is no reason to be slower the next time. */
export const steadyMs = 1_000;

/**
 * Yields each time that the role is had, until the signal aborts; what the consumer does with it ends
 * when `signal` of the holding does. The role is given up when the consumer asks for the next one.
 *
 * @param level below the topic's `active/`, ending in `/`
 * @throws ConclaveError CLOSED when the session was closed, and what the store refuses for good
 */
export async function* holdRole(
  core: TopicCore,
  level: string,
  signal: AbortSignal,
): AsyncGenerator<Holding> {
  const { clock, random } = core.client;
  const subject = { recipe: 'topic', name: core.name, lostCode: 'LOCK_LOST' } as const;
  for (let failures = 0; !signal.aborted; failures++) {
    try {
      const session = await core.keeper.live(signal);
      const membership = {
        prefix: core.keys.active + level,
        attempt: randomId(random),
        value: encodeLineRecord({ sinceMs: clock.wallMs(), meta: session.meta }),
      };
      const context = { ...core.context, session };
      const holding = await waitForHold(context, subject, membership, { signal });
      const sinceMs = clock.monotonicMs();
      try {
        yield holding;
      } finally {
        if (clock.monotonicMs() - sinceMs >= steadyMs) failures = 0;
        await holding[Symbol.asyncDispose]();
      }
    } catch (error) {
      if (signal.aborted) return;
      if (!wasLost(error) && !mayRepeat(error)) throw error;
    }
    await pause(clock, fullJitterMs(failures, random), signal).catch(() => undefined);
  }
}

const wasLost = (error: unknown): boolean =>
  isConclaveError(error, 'SESSION_LOST') || isConclaveError(error, 'LOCK_LOST');

/** Why the holder of a role may not act as one any more, as subscribers are told. */
export function roleLost(name: string, reason: unknown): ConclaveError {
  if (isConclaveError(reason) && reason.code !== 'LOCK_LOST') return reason;
  const message = `This consumer of '${name}' is not the active one any more`;
  return new ConclaveError('CLAIM_LOST', message, { cause: reason });
}
