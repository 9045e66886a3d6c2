/** A read that is made until it answers, or until the session it belongs to is over. */
import type { Kv } from '../../sdk/kv.ts';
import type { CallOptions } from '../../sdk/options.ts';
import type { Session } from '../../sdk/session.ts';
import { untilAnswered } from '../common/repeat.ts';

/** @throws ConclaveError SESSION_LOST, CLOSED, and what the store answers */
export async function readIn<T>(
  session: Session,
  read: (kv: Kv, options: CallOptions) => Promise<T>,
): Promise<T> {
  const { client, signal } = session;
  try {
    return await untilAnswered(client, () => read(client.kv, { signal }), signal);
  } catch (error) {
    // Not that a signal aborted which the caller never gave, but why.
    throw signal.aborted ? signal.reason : error;
  }
}
