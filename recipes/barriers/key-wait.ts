/**
 * Waiting until one key says so: what a barrier and a latch have in common. Each waiter follows that
 * key and nothing else, so n waiters cost n looks and n watches, and each is woken once.
 */
import { ConclaveError } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import type { Duration } from '../../sdk/options.ts';
import type { Session } from '../../sdk/session.ts';
import type { RecipeContext } from '../common/context.ts';
import type { Known } from '../common/option-checks.ts';
import { type Patience, waitPatiently } from '../common/patience.ts';
import { jittered, untilAnswered } from '../common/repeat.ts';
import { type LinkedSignal, linkedSignal, onAbort } from '../common/signals.ts';
import { sessionLost } from '../line/holding.ts';
import type { Measured } from '../metrics.ts';
import { Follower } from './follower.ts';

/** How often waiters look again, whatever watches say, unless told otherwise. */
export const defaultRecheckMs = 15_000;

export type WaitBarrierOptions = {
  /** Gives up waiting: rejects with ABORTED. */
  readonly signal?: AbortSignal;
  /** Gives up waiting: rejects with NOT_ACQUIRED. @default no limit */
  readonly timeout?: Duration;
};

export const knownWaitOptions: Known<WaitBarrierOptions> = { signal: true, timeout: true };

/** The key as of a revision. */
export type KeyView = { readonly kv: KeyValue | null; readonly revision: bigint };

export type KeyWait<T> = {
  readonly key: string;
  /** The first look: an idempotent call, repeated until it is answered. */
  readonly look: (signal: AbortSignal) => Promise<KeyView>;
  /** What a view comes to; undefined to go on waiting. What it throws ends the wait. */
  readonly judge: (view: KeyView) => T | undefined;
  readonly recheckMs: number;
  readonly patience: Patience;
};

/**
 * @throws ConclaveError NOT_ACQUIRED after the timeout, ABORTED by the signal, SESSION_LOST, and
 *   whatever looking or judging throws
 */
export function waitForKey<T>(
  context: RecipeContext,
  subject: Measured,
  wait: KeyWait<T>,
): Promise<T> {
  const { session, metrics } = context;
  const { recipe, name } = subject;
  const late = (timeoutMs: number) => {
    const message = `The wait for ${recipe} '${name}' took longer than ${timeoutMs} ms`;
    return new ConclaveError('NOT_ACQUIRED', message);
  };
  return waitPatiently(context, subject, wait.patience, late, async (enough) => {
    if (isLost(session)) throw sessionLost(session);
    const stop = linkedSignal(session.signal, enough);
    try {
      const look = () => wait.look(stop.signal);
      const first = await untilAnswered(session.client, look, stop.signal);
      let verdict = wait.judge(first);
      if (verdict === undefined) {
        metrics.contended({ recipe, name, kind: 'wait' });
        verdict = await untilJudged(session, wait, first, stop);
      }
      // An answer that comes after the deadline: a frozen process must not go on as if in time.
      if (isLost(session)) throw sessionLost(session);
      return verdict;
    } catch (error) {
      // The first thing that ended the wait, rather than how the call under way put it.
      if (isLost(session)) throw sessionLost(session);
      throw enough?.aborted ? enough.reason : error;
    } finally {
      stop.unlink();
    }
  });
}

/** By the clock, at each call. */
const isLost = ({ state }: Session): boolean => state === 'lost';

function untilJudged<T>(
  { client }: Session,
  { key, judge, recheckMs }: KeyWait<T>,
  first: KeyView,
  stop: LinkedSignal,
): Promise<T> {
  const { clock, random } = client;
  let cancelRecheck = () => {};
  let isLooking = false;
  const waiting = new Promise<T>((resolve, reject) => {
    const settle = (view: KeyView): void => {
      try {
        const verdict = judge(view);
        if (verdict !== undefined) resolve(verdict);
      } catch (error) {
        reject(error);
      }
    };
    const look = async (): Promise<void> => {
      if (isLooking) return;
      isLooking = true;
      const { signal } = stop;
      try {
        const list = () => client.kv.list(key, { signal });
        const { kvs, revision } = await untilAnswered(client, list, signal);
        if (signal.aborted) return;
        settle({ kv: kvs[0] ?? null, revision });
        goOn(revision);
      } catch (error) {
        reject(error);
      } finally {
        isLooking = false;
      }
    };
    const follower = new Follower(client, () => jittered(recheckMs, random) / 10, {
      events: (events, revision) => {
        for (const { type, kv } of events) settle({ kv: type === 'put' ? kv : null, revision });
      },
      look: () => void look(),
    });
    const goOn = (revision: bigint): void => {
      follower.follow({ range: key }, revision);
      cancelRecheck();
      cancelRecheck = clock.setTimer(jittered(recheckMs, random), () => void look());
    };
    onAbort(stop.signal, () => {
      follower.stop();
      reject(stop.signal.reason);
    });
    if (!stop.signal.aborted) goOn(first.revision);
  });
  return waiting.finally(() => {
    cancelRecheck();
    stop.abort();
  });
}
