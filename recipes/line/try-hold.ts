/**
 * Taking a place only if it is admitted at once. The key is created under the condition that nothing
 * the policy has judged has changed, so a refusal leaves no trace in the store.
 *
 * Exchanges: 1 when nobody is ahead or the first answer refuses; 2 when there are places ahead that
 * admit others; 1 more for each time that somebody else came first.
 */
import { isConclaveError } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import type { Session } from '../../sdk/session.ts';
import { type Compare, compare, type Operation, op } from '../../sdk/txn.ts';
import type { RecipeContext } from '../common/context.ts';
import { untilAnswered } from '../common/repeat.ts';
import { expectManyListeners } from '../common/signals.ts';
import { goneKey } from '../names.ts';
import { adoptHold, type Holding, type HoldSubject, sessionLost } from './holding.ts';
import { exclusive } from './line.ts';
import {
  enterOperations,
  firstAttempt,
  type LineView,
  lookOperations,
  type Membership,
  memberName,
  readLook,
} from './line-membership.ts';

type Made = {
  readonly own: bigint;
  /** A copy of the request may still be on its way, and must find a mark when the key is gone. */
  readonly lingering: boolean;
};

/** What a transaction that creates keys came to. */
export type Entered =
  | (Made & { readonly kind: 'entered'; readonly responses: readonly unknown[] })
  /** The key exists: of this attempt, whose answer was lost. */
  | (Made & { readonly kind: 'found' })
  | { readonly kind: 'refused'; readonly revision: bigint; readonly responses: readonly unknown[] };

/**
 * Creates the key of an attempt, with what else is to be done, under conditions.
 *
 * @throws ConclaveError SESSION_LOST, or what the store answers. The key is then absent or will be
 *   removed in the background.
 */
export async function enter(
  session: Session,
  { key, member, keys = [key] }: { key: string; member: string; keys?: readonly string[] },
  conditions: readonly Compare[],
  operations: readonly Operation[],
  otherwise: readonly Operation[],
): Promise<Entered> {
  const { client, lease, signal } = session;
  if (session.state === 'lost') throw sessionLost(session);
  expectManyListeners(signal);
  const txn = client.kv
    .txn()
    .if(...firstAttempt(key, member), ...conditions)
    .then<readonly Operation[]>(...operations)
    .else<readonly Operation[]>(op.get(key), ...otherwise);
  let unanswered = 0;
  const commit = () =>
    txn.commit({ signal }).catch((error: unknown) => {
      if (isConclaveError(error) && error.outcome === 'unknown') unanswered += 1;
      throw error;
    });
  try {
    const result = await untilAnswered(client, commit, signal);
    const { revision } = result;
    const responses: readonly unknown[] = result.responses;
    if (result.succeeded) {
      return { kind: 'entered', own: revision, lingering: unanswered > 0, responses };
    }
    const [self, ...rest] = responses;
    const own = (self as KeyValue | null)?.createRevision;
    if (own !== undefined) return { kind: 'found', own, lingering: unanswered > 1 };
    return { kind: 'refused', revision, responses: rest };
  } catch (error) {
    if (signal.aborted || isConclaveError(error, 'LEASE_NOT_FOUND')) {
      throw sessionLost(session);
    }
    // The keys may be there or may yet appear; nobody will use them.
    if (!isConclaveError(error) || error.outcome !== 'not-applied') {
      session.reap(async () => {
        const mark = op.put(goneKey(member), '', { lease });
        await client.kv
          .txn()
          .then<readonly Operation[]>(mark, ...keys.map((each) => op.delete(each)))
          .commit();
        return true;
      });
    }
    throw error;
  }
}

/**
 * A hold if the membership's policy admits it at once, else null.
 *
 * @throws ConclaveError SESSION_LOST, what the membership's check says, or what the store answers
 */
export async function tryHold(
  context: RecipeContext,
  subject: HoldSubject,
  membership: Membership,
  maxHoldMs: number | undefined,
): Promise<Holding | null> {
  const { session } = context;
  const { prefix, aheadPrefix = prefix, beside, check } = membership;
  const member = memberName(session, membership);
  const key = prefix + member;
  const operations = [
    ...enterOperations(session.client, membership, key, session.lease),
    ...(beside === undefined ? [] : [op.get(beside.key)]),
  ];
  const look = lookOperations(membership);
  let unchanged: Compare[] = [compare.range.createRevision({ prefix: aheadPrefix }, '==', 0n)];
  for (;;) {
    const result = await enter(session, { key, member }, unchanged, operations, look);
    if (result.kind === 'refused') {
      const { revision } = result;
      const seen = readLook(membership, key, result.responses);
      const problem = check?.(seen, true);
      if (problem) throw problem;
      // Whoever joins next has a number above every other.
      const view: LineView = { own: revision + 1n, revision, ...seen };
      const blocker = membership.policy ? membership.policy(view) : exclusive(view.ahead);
      if (blocker !== undefined) {
        const { recipe, name } = subject;
        context.metrics.contended({ recipe, name, kind: 'refused' });
        return null;
      }
      // What left meanwhile can only help; what came or changed makes the judgement void.
      unchanged = [compare.range.modRevision({ prefix: aheadPrefix }, '<', revision + 1n)];
      if (beside) {
        const version = seen.beside?.modRevision ?? 0n;
        unchanged.push(compare.modRevision(beside.key, '==', version));
      }
      continue;
    }
    const { own } = result;
    const found = result.kind === 'entered' && beside ? result.responses.at(-1) : null;
    const settings = (found as KeyValue | null | undefined) ?? null;
    const problem =
      result.kind === 'entered' && beside
        ? check?.({ ahead: [], beside: settings }, true)
        : undefined;
    if (problem) {
      const fence = compare.createRevision(key, '==', own);
      session.reap(async () => {
        await session.client.kv.txn().if(fence).then(op.delete(key)).commit();
        return true;
      });
      throw problem;
    }
    // It was admitted by the conditions of the transaction: nothing of what is ahead blocks it.
    const { lingering } = result;
    const admitted: Membership = { ...membership, lingering, policy: () => undefined };
    const view: LineView = { own, revision: own, ahead: [], beside: settings };
    return adoptHold(context, subject, admitted, view, maxHoldMs);
  }
}
