/** The term of an election by priority that a former process of the session had. */
import { ConclaveError, invalidArgument } from '../../sdk/errors.ts';
import { hexId } from '../../sdk/hex-id.ts';
import type { RecipeContext } from '../common/context.ts';
import { untilAnswered } from '../common/repeat.ts';
import { type HoldSubject, sessionLost } from '../line/holding.ts';
import { decodeLineRecord, type LineContent } from '../line/line-record.ts';
import { parseSequencer } from '../line/sequencer.ts';
import { type ElectionKeys, memberNamed } from './candidates.ts';
import type { Standing } from './standing.ts';

export type Former = {
  readonly former: NonNullable<Standing['former']>;
  /** What the candidate said that led. */
  readonly content: LineContent;
};

/**
 * One exchange.
 *
 * @throws ConclaveError INVALID_ARGUMENT when the sequencer is none of this election by priority,
 *   LEADERSHIP_LOST when the term is over or another session's, SESSION_LOST
 */
export async function formerTerm(
  { session }: RecipeContext,
  { name, lostCode }: HoldSubject,
  { prefix, leader }: ElectionKeys,
  sequencer: string,
): Promise<Former> {
  const parsed = parseSequencer(sequencer);
  if (!('modRevision' in parsed) || parsed.key !== leader) {
    const allowed = `a sequencer of this election by priority, such as '${leader}@mod:112'`;
    throw invalidArgument('sequencer', sequencer, allowed);
  }
  const over = () =>
    new ConclaveError(lostCode, `The term ${term} of '${name}' is over: campaign anew`);
  const term = parsed.modRevision;
  const { client, id, signal } = session;
  session.assertLive();
  const { kvs } = await untilAnswered(client, () => client.kv.list({ prefix }), signal).catch(
    (error: unknown) => {
      throw session.state === 'lost' ? sessionLost(session) : error;
    },
  );
  const named = kvs.find(({ key }) => key === leader);
  if (named?.modRevision !== term || hexId(named.lease) !== id) throw over();
  const member = memberNamed(named);
  const candidate = kvs.find(({ key }) => key === prefix + member);
  if (candidate === undefined) throw over();
  const { createRevision, value } = candidate;
  return { former: { term, member, createRevision, over }, content: decodeLineRecord(value) };
}
