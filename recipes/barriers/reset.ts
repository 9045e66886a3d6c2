/** Forgetting what a barrier keeps, while nobody is there who could be harmed. */
import { ConclaveError } from '../../sdk/errors.ts';
import type { Session } from '../../sdk/session.ts';
import { type Compare, compare, op } from '../../sdk/txn.ts';
import { untilAnswered } from '../common/repeat.ts';

/**
 * Deletes everything under `root` if there is nothing under `folder`. One exchange; repeating it after
 * a lost answer finds nothing to delete, or a barrier that somebody began anew and that goes on.
 *
 * @throws ConclaveError FAILED_PRECONDITION when there is something; SESSION_LOST
 */
export async function resetWhenEmpty(
  session: Session,
  what: string,
  root: string,
  folder: string,
  conditions: readonly Compare[] = [],
): Promise<void> {
  session.assertLive();
  const { client, signal } = session;
  const txn = client.kv
    .txn()
    .if(compare.range.createRevision({ prefix: folder }, '==', 0n), ...conditions)
    .then(op.delete({ prefix: root }));
  const { succeeded } = await untilAnswered(client, () => txn.commit({ signal }), signal);
  if (succeeded) return;
  throw new ConclaveError('FAILED_PRECONDITION', `Somebody waits at ${what} or is inside`, {
    retryable: true,
  });
}
