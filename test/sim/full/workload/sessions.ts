/** Doing something in a session, and in another when that is gone, until the run ends. */
import type { RecipeSession } from '../../../../recipes/session.ts';
import { isConclaveError } from '../../../../sdk/errors.ts';
import type { ClientContext } from './workload.ts';

export async function inSessions(
  client: ClientContext,
  work: (session: RecipeSession) => Promise<void>,
): Promise<void> {
  const { conclave, knobs, ending } = client;
  while (!client.isEnding()) {
    try {
      const session = await conclave.session({
        ttl: knobs.leaseTtlSeconds * 1_000,
        signal: ending,
      });
      try {
        await work(session);
      } finally {
        await session.close();
      }
    } catch (error) {
      ignoreRefusal(error);
    }
    await client.pause(knobs.meanPauseMs);
  }
}

/** What the SDK says when the store does not answer, or a session is gone, is part of life. */
export function ignoreRefusal(error: unknown): void {
  if (!isConclaveError(error)) throw error;
}
