/**
 * Taking back a hold that still stands under the session's lease, after its process was gone or had
 * given its session up. As long as the key has the create revision it had when it was granted, nobody
 * else can have held in between (hashicorp/consul#430).
 *
 * The key is written again with the value it has: that makes the token higher than any before, keeps
 * the key when the rest that was inherited goes, and tells a former holder that still runs.
 *
 * Exchanges: 1.
 */
import { ConclaveError, invalidArgument } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { compare, op } from '../../sdk/txn.ts';
import type { RecipeContext } from '../common/context.ts';
import { untilAnswered } from '../common/repeat.ts';
import { sessionLost } from '../line/holding.ts';
import { parseSequencer } from '../line/sequencer.ts';

export type Resumed = {
  /** The attempt whose place it is. */
  readonly attempt: string;
  readonly createRevision: bigint;
  /** Of the write that took it over: the new token. */
  readonly revision: bigint;
  readonly kv: KeyValue;
};

/**
 * @throws ConclaveError INVALID_ARGUMENT when the sequencer is of another lock or session, LOCK_LOST
 *   when the hold is over or was never granted, SESSION_LOST
 */
export async function resumeHold(
  { session }: RecipeContext,
  prefix: string,
  sequencer: string,
): Promise<Resumed> {
  const { client, lease, id } = session;
  const parsed = parseSequencer(sequencer);
  const start = `${prefix}${id}-`;
  if (!('createRevision' in parsed) || !parsed.key.startsWith(start)) {
    const allowed = `a sequencer of this mutex and session, such as '${start}7f@112'`;
    throw invalidArgument('sequencer', sequencer, allowed);
  }
  const { key, createRevision } = parsed;
  session.assertLive();
  const txn = client.kv
    .txn()
    .if(
      compare.createRevision(key, '==', createRevision),
      compare.lease(key, '==', lease),
      // Nobody is before it in the line.
      compare.range.createRevision({ prefix }, '>', createRevision - 1n),
    )
    .then(op.put(key, '', { ignoreValue: true, lease }), op.get(key));
  const { succeeded, responses, revision } = await untilAnswered(
    client,
    () => txn.commit(),
    session.signal,
  ).catch((error: unknown) => {
    throw session.state === 'lost' ? sessionLost(session) : error;
  });
  const kv = succeeded ? responses[1] : null;
  if (!kv) {
    const message = `The hold '${sequencer}' is over, or was never granted: acquire the lock anew`;
    throw new ConclaveError('LOCK_LOST', message);
  }
  return { attempt: key.slice(start.length), createRevision, revision, kv };
}
