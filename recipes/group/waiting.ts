/** Waiting for a state, as long as the session lives. */
import type { Observable } from 'rxjs';
import { aborted, ConclaveError, isConclaveError, throwIfAborted } from '../../sdk/errors.ts';
import { type Duration, parseDuration } from '../../sdk/options.ts';
import type { RecipeContext } from '../common/context.ts';
import { onAbort } from '../common/signals.ts';
import { sessionLost } from '../line/holding.ts';
import type { Measured } from '../metrics.ts';

export type WaitOptions = {
  /** Ends the wait: rejects with ABORTED. */
  readonly signal?: AbortSignal;
  /** Ends the wait: rejects with TIMEOUT. @default no limit */
  readonly timeout?: Duration;
};

export type Wait<State, Result> = Measured & {
  /** What is waited for, for errors: "two members of group 'a'". */
  readonly what: string;
  readonly states$: Observable<State>;
  /** The result, once the state allows it. What it throws ends the wait. */
  readonly take: (state: State) => Result | undefined;
};

/**
 * The result of the first state that has one.
 *
 * @throws ConclaveError ABORTED, TIMEOUT; SESSION_LOST or CLOSED as soon as the session ends
 */
export async function waitForState<State, Result>(
  { session, metrics }: RecipeContext,
  { recipe, name, what, states$, take }: Wait<State, Result>,
  { signal, timeout }: WaitOptions,
): Promise<Result> {
  const { clock } = session.client;
  const timeoutMs = timeout === undefined ? undefined : parseDuration(timeout, 'timeout');
  throwIfAborted(signal);
  if (session.state === 'lost') throw sessionLost(session);
  const startedMs = clock.monotonicMs();
  const ends: (() => void)[] = [];
  try {
    const result = await new Promise<Result>((resolve, reject) => {
      const subscription = states$.subscribe({
        next: (state) => {
          try {
            const taken = take(state);
            if (taken !== undefined) resolve(taken);
          } catch (error) {
            reject(error);
          }
        },
        complete: () =>
          reject(new ConclaveError('CLOSED', `What was to tell of ${what} was closed`)),
      });
      ends.push(() => subscription.unsubscribe());
      ends.push(onAbort(session.signal, () => reject(sessionLost(session))));
      ends.push(onAbort(signal, () => signal && reject(aborted(signal))));
      if (timeoutMs !== undefined) {
        const message = `Waited for ${what} for ${timeoutMs} ms`;
        const expire = () => reject(new ConclaveError('TIMEOUT', message));
        ends.push(clock.setTimer(timeoutMs, expire, true));
      }
    });
    metrics.waited({ recipe, name, ms: clock.monotonicMs() - startedMs, outcome: 'acquired' });
    return result;
  } catch (error) {
    const outcome = isConclaveError(error) ? error.code : 'INTERNAL';
    metrics.waited({ recipe, name, ms: clock.monotonicMs() - startedMs, outcome });
    throw error;
  } finally {
    for (const end of ends) end();
  }
}
