/**
 * The one write of a transaction: everything it wants written, if everything it has seen is as it was.
 * An op-record in it tells a repetition whose first answer was lost that it has taken effect already.
 */
import { ConclaveError, isConclaveError } from '../../sdk/errors.ts';
import { hexId } from '../../sdk/hex-id.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { type Compare, compare, op } from '../../sdk/txn.ts';
import type { RecipeContext } from '../common/context.ts';
import { untilAnswered } from '../common/repeat.ts';
import { randomId, stmPrefix } from '../names.ts';
import { commitOnce } from '../values/commit-once.ts';
import { spentAtOnce, spentRecords } from '../values/spent-records.ts';
import { broken, conditionsOf, judgeable, readsFor } from './stm-guards.ts';
import { bytesOf } from './stm-keys.ts';
import { sameKey } from './stm-reads.ts';
import type { StmSnapshot } from './stm-snapshot.ts';
import type { StmRun } from './stm-transaction.ts';

/**
 * What may happen between the reads of a transaction and its commit:
 *
 * - `serializable`: nothing to what it has read. As if transactions ran one after the other.
 * - `snapshot`: anything but to the keys that it writes. Two transactions that read the same and write
 *   different keys may both commit, though neither order of them would explain it (write skew).
 * - `read-committed`: anything. Each read shows the latest; what is written is written together.
 */
export type StmIsolation = 'serializable' | 'snapshot' | 'read-committed';

/** For the op-record, and for the fence that a repetition adds. */
const operationsBeside = 2;
/** For the op-record of an earlier commit: as each leaves one, they would add up otherwise. */
const removalsAtLeast = 1;

export type Commit = {
  readonly context: RecipeContext;
  readonly isolation: StmIsolation;
  /** Operations that the store takes in one transaction. */
  readonly maxOperations: number;
  readonly signal: AbortSignal;
};

/**
 * One exchange, and one more for each lost answer; none when there is nothing to write and nothing to
 * guard, as all reads show one revision. When something has changed, what the next run needs comes
 * with the refusal.
 *
 * @returns undefined when it is done, else what to run on again
 * @throws ConclaveError TOO_MANY_OPERATIONS before anything is sent; NOT_HELD; SESSION_LOST, ABORTED,
 *   LEASE_NOT_FOUND for a lease that is not the session's, and what else the store answers
 */
export async function commitRun(run: StmRun, commit: Commit): Promise<StmSnapshot | undefined> {
  const { context, maxOperations } = commit;
  const { session } = context;
  if (run.writes.size === 0 && run.guards.size === 0) return undefined;
  const guards = conditionsOf(run.guards, session.client.kv.txn());
  const compares = [...guards, ...conditionsOn(run, commit.isolation)];
  const room = maxOperations - operationsBeside;
  assertRoom('writes', run.writes.size, room - removalsAtLeast);
  assertRoom('conditions on what it has read', compares.length, room);

  // The store counts the fence twice: as an operation, and as a transaction that has one.
  const judged = judgeable(guards).slice(0, room - 1);
  const again = run.reads.again(room - 1 - judged.length);
  const key = `${stmPrefix}op/${session.id}-${randomId(session.client.random)}`;
  const records = spentRecords(context, stmPrefix);
  const spent = records.splice(0, Math.min(spentAtOnce, room - run.writes.size));
  let removed = false;
  try {
    const outcome = await commitOnce(
      session,
      {
        key,
        record: '1',
        lease: session.lease,
        compares,
        writes: [...run.operations, ...spent.map((old) => op.delete(old))],
        reads: [...readsFor(judged), ...again],
        fence: true,
      },
      commit.signal,
    );
    if (outcome.kind !== 'refused') {
      removed = true;
      if (outcome.kind === 'applied' && outcome.alone) records.push(key);
      return undefined;
    }
    const found: readonly unknown[] = outcome.found;
    assertGuards(judged, found.slice(0, judged.length) as (KeyValue | null)[]);
    const snapshot = run.snapshot.later(outcome.revision);
    run.reads.teach(snapshot, found.slice(judged.length));
    return snapshot;
  } catch (error) {
    throw await foreignLeaseGone(error, run, commit);
  } finally {
    if (!removed) records.push(...spent);
  }
}

/** The store does not say which lease is gone: when it is none of the session's, that one is named. */
async function foreignLeaseGone(error: unknown, run: StmRun, commit: Commit): Promise<unknown> {
  const { session } = commit.context;
  const isOfLease = error instanceof Error && isConclaveError(error.cause, 'LEASE_NOT_FOUND');
  if (!isOfLease || session.signal.aborted) return error;
  const leases = new Set([...run.writes.values()].map((written) => written?.lease ?? 0n));
  for (const lease of leases) {
    if (lease === 0n || lease === session.lease) continue;
    const { client } = session;
    const look = () => client.leases.timeToLive(lease, { signal: commit.signal });
    if ((await untilAnswered(client, look, commit.signal)) !== null) continue;
    return new ConclaveError(
      'LEASE_NOT_FOUND',
      `There is no lease ${hexId(lease)}, which a key is put under`,
    );
  }
  return error;
}

function conditionsOn(run: StmRun, isolation: StmIsolation): readonly Compare[] {
  const { revision } = run.snapshot;
  if (revision === undefined || isolation === 'read-committed') return [];
  if (isolation === 'serializable') return run.reads.unchanged(revision);
  return [...run.writes.keys()].map((key) => {
    const seen = run.snapshot.known(key);
    if (seen !== undefined) return sameKey(key, seen);
    return compare.modRevision(bytesOf(key), '<', revision + 1n);
  });
}

function assertRoom(what: string, count: number, room: number): void {
  if (count <= room) return;
  const message = `The transaction has ${count} ${what}; there is room for ${room}`;
  throw new ConclaveError('TOO_MANY_OPERATIONS', message, {
    remedy:
      'Read and write less at a time, or raise --max-txn-ops on the server and maxOperations here.',
  });
}

function assertGuards(
  conditions: Parameters<typeof broken>[0],
  found: readonly (KeyValue | null)[],
): void {
  const lost = broken(conditions, found);
  if (lost === undefined) return;
  const key = Buffer.from(lost.range).toString('utf8');
  throw new ConclaveError('NOT_HELD', `What guards the transaction is not held any more: '${key}'`);
}
