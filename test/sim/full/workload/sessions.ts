/** Doing something in a session, and in another when that is gone, until the run ends. */
import type { RecipeSession } from '../../../../recipes/session.ts';
import { isConclaveError } from '../../../../sdk/errors.ts';
import type { ClientContext } from './workload.ts';

export async function inSessions(
  client: ClientContext,
  work: (session: RecipeSession) => Promise<void>,
): Promise<void> {
  const { ending, knobs, pause } = client;
  while (!client.isEnding()) {
    await inOneSession(client, work, ending);
    await pause(knobs.meanPauseMs);
  }
}

/** When faults are over: what is to be brought to an end, in one session after the other. */
export async function untilFinished(
  client: ClientContext,
  work: (session: RecipeSession) => Promise<void>,
  isFinished: () => boolean,
): Promise<void> {
  while (!isFinished()) {
    await inOneSession(client, work);
    await client.pause(client.knobs.meanPauseMs);
  }
}

async function inOneSession(
  { conclave, knobs }: ClientContext,
  work: (session: RecipeSession) => Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  try {
    const ttl = knobs.leaseTtlSeconds * 1_000;
    const session = await conclave.session(signal === undefined ? { ttl } : { ttl, signal });
    try {
      await work(session);
    } finally {
      await session.close();
    }
  } catch (error) {
    ignoreRefusal(error);
  }
}

/** What the SDK says when the store does not answer, or a session is gone, is part of life. */
export function ignoreRefusal(error: unknown): void {
  if (!isConclaveError(error)) throw error;
}
