/**
 * A conditional write that takes effect at most once and whose fate is always found out: it creates an
 * op-record in the same transaction, so that a repetition after a lost answer recognises itself.
 *
 * Only the op-record tells: by the time of the repetition others may have overwritten the rest.
 */
import { aborted, ConclaveError, isConclaveError, throwIfAborted } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import type { Session } from '../../sdk/session.ts';
import {
  type Compare,
  compare,
  type GetOperation,
  type ListOperation,
  type Operation,
  type OperationResults,
  op,
} from '../../sdk/txn.ts';
import { mayRepeat, untilAnswered } from '../common/repeat.ts';
import { linkedSignal } from '../common/signals.ts';

/** Reads, one by one or all of one kind. */
type Reads = readonly (GetOperation | ListOperation)[];

export type OnceWrite<Wanted extends Reads = readonly GetOperation[]> = {
  /** The key of the op-record, and its content, which must not be empty when there is a fence. */
  readonly key: string;
  readonly record: string;
  /** What the record lives by. */
  readonly lease: bigint;
  readonly compares: readonly Compare[];
  readonly writes: readonly Operation[];
  /** What to read when it is refused. */
  readonly reads: Wanted;
  /**
   * Marks the op-record as used when a repetition is refused, so that no late copy can take effect
   * afterwards. Needed where the compared keys may be deleted: then the conditions can come true again.
   */
  readonly fence: boolean;
};

export type OnceOutcome<Wanted extends Reads = readonly GetOperation[]> =
  | {
      readonly kind: 'applied';
      readonly revision: bigint;
      /** Whether no copy of the write can still be under way: its op-record may then be removed. */
      readonly alone: boolean;
    }
  /** There was an op-record: of an earlier try of this write, or of another with the same key. */
  | { readonly kind: 'recorded'; readonly record: KeyValue }
  | {
      readonly kind: 'refused';
      readonly revision: bigint;
      readonly found: OperationResults<Wanted>;
    };

/**
 * One exchange, and one more for each answer that gets lost.
 *
 * @throws ConclaveError SESSION_LOST, ABORTED, or what the store answers; `outcome` tells whether the
 *   write may have taken effect
 */
export async function commitOnce<const Wanted extends Reads = readonly GetOperation[]>(
  session: Session,
  write: OnceWrite<Wanted>,
  signal?: AbortSignal,
): Promise<OnceOutcome<Wanted>> {
  throwIfAborted(signal);
  session.assertLive();
  const { client } = session;
  const stop = linkedSignal(session.signal, signal);
  const attempted = client.kv
    .txn()
    .if(compare.createRevision(write.key, '==', 0n), ...write.compares)
    .then(op.put(write.key, write.record, { lease: write.lease }), ...write.writes)
    .else(op.get(write.key), ...write.reads);
  const use = client.kv
    .txn()
    .if(compare.createRevision(write.key, '==', 0n))
    .then(op.put(write.key, '', { lease: write.lease }));
  let mayHaveApplied = false;
  try {
    return await untilAnswered(
      client,
      async (): Promise<OnceOutcome<Wanted>> => {
        const alone = !mayHaveApplied;
        const txn = write.fence && !alone ? attempted.else(op.txn(use)) : attempted;
        const result = await txn.commit({ signal: stop.signal }).catch((error: unknown) => {
          if (isConclaveError(error) && error.outcome === 'unknown') mayHaveApplied = true;
          throw error;
        });
        if (result.succeeded) return { kind: 'applied', revision: result.revision, alone };
        const [first, ...found] = result.responses as readonly unknown[];
        const record = first as KeyValue | null;
        // An empty one is the fence of a refusal whose own answer was lost.
        if (record && !(write.fence && record.value.length === 0)) {
          return { kind: 'recorded', record };
        }
        return {
          kind: 'refused',
          revision: result.revision,
          found: found.slice(0, write.reads.length) as unknown as OperationResults<Wanted>,
        };
      },
      stop.signal,
    );
  } catch (error) {
    throw explained(
      error,
      session,
      write.lease,
      signal,
      mayHaveApplied ? 'unknown' : 'not-applied',
    );
  } finally {
    stop.unlink();
  }
}

function explained(
  error: unknown,
  session: Session,
  lease: bigint,
  signal: AbortSignal | undefined,
  outcome: 'unknown' | 'not-applied',
): unknown {
  const leaseGone = isConclaveError(error, 'LEASE_NOT_FOUND') && lease === session.lease;
  if (session.signal.aborted || leaseGone) {
    return new ConclaveError(
      'SESSION_LOST',
      'The session was lost before the write was confirmed',
      {
        cause: session.signal.reason ?? error,
        outcome,
      },
    );
  }
  if (signal?.aborted) return aborted(signal, outcome);
  if (!isConclaveError(error) || mayRepeat(error) || error.outcome === outcome) return error;
  return new ConclaveError(error.code, error.message, { cause: error, outcome });
}
