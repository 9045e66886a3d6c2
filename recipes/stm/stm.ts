/**
 * Software transactional memory: a function reads and writes any keys, and takes effect as one step or
 * not at all. Optimistic: nothing is locked; when others changed what it has read, it runs again.
 */
import {
  aborted,
  ConclaveError,
  invalidArgument,
  isConclaveError,
  throwIfAborted,
} from '../../sdk/errors.ts';
import { type Duration, parseDuration } from '../../sdk/options.ts';
import type { Session } from '../../sdk/session.ts';
import type { RecipeContext } from '../common/context.ts';
import { checkOptions } from '../common/option-checks.ts';
import { untilAnswered } from '../common/repeat.ts';
import { linkedSignal, unlessAborted } from '../common/signals.ts';
import { type Contention, parseRetries, untilUncontended } from '../values/contention.ts';
import { type Commit, commitRun, type StmIsolation } from './stm-commit.ts';
import { type Read, StmSnapshot } from './stm-snapshot.ts';
import { StmRun, type StmTransaction } from './stm-transaction.ts';

export type StmOptions = Contention & {
  /** @default 'serializable' */
  readonly isolation?: StmIsolation;
  /** What it is called in metrics and errors. @default 'transaction' */
  readonly name?: string;
  /** Gives up: rejects with ABORTED, whose `outcome` tells whether it may have taken effect. */
  readonly signal?: AbortSignal;
  /** How long all runs together may take: rejects with TIMEOUT. @default as long as it takes */
  readonly timeout?: Duration;
  /** As many as the store takes in one transaction (etcd: --max-txn-ops). @default 128 */
  readonly maxOperations?: number;
};

/** May run several times: it should do nothing but read and write through `tx`, and compute. */
export type StmFunction<R> = (tx: StmTransaction) => Promise<R> | R;

const isolations: readonly string[] = [
  'serializable',
  'snapshot',
  'read-committed',
] satisfies StmIsolation[];

const knownOptions = {
  isolation: true,
  name: true,
  retries: true,
  signal: true,
  timeout: true,
  maxOperations: true,
} as const;

/** Enough for the op-record and its fence, a condition and a write. */
const leastOperations = 4;

/**
 * Runs the function until its effect could be committed. An exchange for each read and one to commit;
 * one more for each time that somebody else came first.
 *
 * @throws ConclaveError CONFLICT after too many conflicts, TOO_MANY_OPERATIONS, NOT_HELD,
 *   LEASE_NOT_FOUND, SESSION_LOST, CLOSED, ABORTED, TIMEOUT, CODEC, INVALID_ARGUMENT, and whatever the function
 *   throws: nothing is written then
 */
export async function runStm<R>(
  context: RecipeContext,
  body: StmFunction<R>,
  options: StmOptions = {},
): Promise<R> {
  const { isolation, name, retries, timeoutMs, maxOperations } = parse(body, options);
  const { session, metrics } = context;
  const { client } = session;
  const stop = linkedSignal(session.signal, options.signal);
  const { signal } = stop;
  const late = new ConclaveError('TIMEOUT', `'${name}' took longer than ${timeoutMs} ms`);
  const cancelTimer =
    timeoutMs === undefined
      ? () => undefined
      : client.clock.setTimer(timeoutMs, () => stop.abort(late), true);

  const read: Read = (range, fields) =>
    untilAnswered(client, () => client.kv.list(range, { ...fields, signal }), signal);
  const view = isolation === 'read-committed' ? 'the latest' : 'one revision';
  const commit: Commit = { context, isolation, maxOperations, signal };
  const subject = { recipe: 'stm', name } as const;
  const startedMs = client.clock.monotonicMs();
  const report = (outcome: Parameters<typeof metrics.waited>[0]['outcome']) =>
    metrics.waited({ ...subject, ms: client.clock.monotonicMs() - startedMs, outcome });

  let snapshot = new StmSnapshot(read, view);
  let attempt = 0;
  try {
    const { value } = await untilUncontended(context, subject, retries, signal, async () => {
      session.assertLive();
      throwIfAborted(signal);
      const run = new StmRun(snapshot, attempt, signal, client.kv.txn());
      attempt += 1;
      const result = await runOnce(run, body, signal);
      const next =
        result === 'outdated' ? new StmSnapshot(read, view) : await commitRun(run, commit);
      if (next === undefined && result !== 'outdated') return result;
      snapshot = next ?? snapshot;
      return 'conflict';
    });
    report('acquired');
    return value;
  } catch (error) {
    const told = signal.aborted ? endOf(signal, session, late, error) : error;
    if (isConclaveError(told)) report(told.code);
    throw told;
  } finally {
    cancelTimer();
    stop.unlink();
  }
}

/** What ended the transaction, whatever that made of the calls under way. */
function endOf(
  signal: AbortSignal,
  session: Session,
  late: ConclaveError,
  error: unknown,
): ConclaveError {
  const outcome = isConclaveError(error) ? error.outcome : 'not-applied';
  if (signal.reason === late) {
    return new ConclaveError('TIMEOUT', late.message, { cause: error, outcome });
  }
  if (!session.signal.aborted) return aborted(signal, outcome);
  const cause: unknown = session.signal.reason;
  const isClosed = isConclaveError(cause, 'CLOSED');
  const message = `The session was ${isClosed ? 'closed' : 'lost'} during the transaction`;
  return new ConclaveError(isClosed ? 'CLOSED' : 'SESSION_LOST', message, { cause, outcome });
}

/** 'outdated' when it has seen that its snapshot is gone, whatever it made of that. */
async function runOnce<R>(
  run: StmRun,
  body: StmFunction<R>,
  signal: AbortSignal,
): Promise<{ readonly value: R } | 'outdated'> {
  try {
    const running = (async () => body(run))();
    const value = await unlessAborted(running, signal);
    return run.snapshot.outdated ? 'outdated' : { value };
  } catch (error) {
    if (run.snapshot.outdated && !signal.aborted) return 'outdated';
    throw error;
  } finally {
    run.close();
  }
}

function parse(body: unknown, options: StmOptions) {
  if (typeof body !== 'function') throw invalidArgument('body', body, 'a function');
  checkOptions<StmOptions>(options, knownOptions);
  const { isolation = 'serializable', name = 'transaction', maxOperations = 128 } = options;
  if (!isolations.includes(isolation)) {
    throw invalidArgument('isolation', isolation, isolations.map((one) => `'${one}'`).join(', '));
  }
  if (!Number.isSafeInteger(maxOperations) || maxOperations < leastOperations) {
    const allowed = `a whole number, ${leastOperations} or more`;
    throw invalidArgument('maxOperations', maxOperations, allowed);
  }
  if (typeof name !== 'string') throw invalidArgument('name', name, 'a text');
  const timeoutMs =
    options.timeout === undefined ? undefined : parseDuration(options.timeout, 'timeout');
  return { isolation, name, retries: parseRetries(options), timeoutMs, maxOperations };
}
