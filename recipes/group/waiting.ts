/** Waiting for a state, as long as the session lives. */
import type { Observable } from 'rxjs';
import { ConclaveError } from '../../sdk/errors.ts';
import type { Duration } from '../../sdk/options.ts';
import type { RecipeContext } from '../common/context.ts';
import { patienceOf, waitPatiently } from '../common/patience.ts';
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
  context: RecipeContext,
  { recipe, name, what, states$, take }: Wait<State, Result>,
  options: WaitOptions,
): Promise<Result> {
  const { session } = context;
  const late = (timeoutMs: number) =>
    new ConclaveError('TIMEOUT', `Waited for ${what} for ${timeoutMs} ms`);
  const patience = patienceOf(options);
  return waitPatiently(context, { recipe, name }, patience, late, async (enough) => {
    if (session.state === 'lost') throw sessionLost(session);
    const ends: (() => void)[] = [];
    const taken = new Promise<Result>((resolve, reject) => {
      const subscription = states$.subscribe({
        next: (state) => {
          try {
            const result = take(state);
            if (result !== undefined) resolve(result);
          } catch (error) {
            reject(error);
          }
        },
        complete: () =>
          reject(new ConclaveError('CLOSED', `What was to tell of ${what} was closed`)),
      });
      ends.push(() => subscription.unsubscribe());
      ends.push(onAbort(session.signal, () => reject(sessionLost(session))));
      ends.push(onAbort(enough, () => reject(enough?.reason)));
    });
    return taken.finally(() => {
      for (const end of ends) end();
    });
  });
}
