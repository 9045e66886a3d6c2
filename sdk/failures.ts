/** From the failure of an attempt to the error a caller sees, and whether to try again. */
import { Status } from 'nice-grpc-common';
import { ConclaveError, type ErrorCode, type Outcome } from './errors.ts';
import type { Effect } from './methods.ts';
import { neverConnected, TransportFailure } from './transport.ts';

export type Verdict = {
  readonly error: ConclaveError;
  /** Whether to try again. */
  readonly again: boolean;
  /** Whether another member may do better. */
  readonly elsewhere: boolean;
  /** Whether this attempt may have taken effect. */
  readonly unsure: boolean;
};

type Row = {
  readonly code: ErrorCode;
  /** The server refused before doing anything, but may not refuse the next time. */
  readonly refused?: true;
  /** The member, not the request, is the reason. */
  readonly member?: true;
  /** The server itself does not know whether the request will take effect. */
  readonly unsure?: true;
  /** What came of applying the request: had an earlier attempt been applied, this would not be said. */
  readonly result?: true;
};

const unknownClient = 'conclave: unknown client';

/** Whether the server forgot the client of a numbered write, which it therefore did not apply now. */
export const isUnknownClient = (failure: unknown): boolean =>
  failure instanceof TransportFailure && failure.details.includes(unknownClient);

/** etcd's texts are part of its contract; each is looked for anywhere in the text that arrives. */
const texts: readonly (readonly [string, Row])[] = [
  ['required revision has been compacted', { code: 'COMPACTED', result: true }],
  ['required revision is a future revision', { code: 'FUTURE_REVISION', result: true }],
  ['database space exceeded', { code: 'NO_SPACE' }],
  ['requested lease not found', { code: 'LEASE_NOT_FOUND', result: true }],
  ['lease already exists', { code: 'LEASE_EXISTS', result: true }],
  ['too large lease TTL', { code: 'INVALID_ARGUMENT' }],
  ['key is not provided', { code: 'INVALID_ARGUMENT' }],
  ['etcdserver: key not found', { code: 'KEY_NOT_FOUND', result: true }],
  ['request is too large', { code: 'TOO_LARGE' }],
  ['message larger than max', { code: 'TOO_LARGE' }],
  ['too many operations in txn request', { code: 'TOO_MANY_OPERATIONS' }],
  ['duplicate key given in txn request', { code: 'DUPLICATE_KEY' }],
  ['watcher range is empty', { code: 'INVALID_ARGUMENT' }],
  ['too many requests', { code: 'RESOURCE_EXHAUSTED', refused: true }],
  ['invalid auth token', { code: 'UNAUTHENTICATED' }],
  ['user name is empty', { code: 'UNAUTHENTICATED' }],
  ['authentication failed', { code: 'UNAUTHENTICATED' }],
  ['revision of auth store is old', { code: 'UNAUTHENTICATED' }],
  ['permission denied', { code: 'PERMISSION_DENIED' }],
  ['member not found', { code: 'NOT_FOUND' }],
  ['not supported for learner', { code: 'UNREACHABLE', refused: true, member: true }],
  ['another membership change is in progress', { code: 'CONFLICT', refused: true }],
  ['corrupt cluster', { code: 'CORRUPT' }],
  ['unhealthy cluster', { code: 'FAILED_PRECONDITION', refused: true }],
  ['etcdserver: no leader', { code: 'UNREACHABLE', refused: true, member: true }],
  ['etcdserver: leader changed', { code: 'UNREACHABLE', unsure: true }],
  ['not a primary lessor', { code: 'UNREACHABLE', unsure: true }],
  ['etcdserver: server stopped', { code: 'UNREACHABLE', unsure: true, member: true }],
  ['etcdserver: request timed out', { code: 'UNREACHABLE', unsure: true, member: true }],
  [unknownClient, { code: 'FAILED_PRECONDITION' }],
  // What these say of a write is that it is over, not what came of it.
  ['conclave: sequence forgotten', { code: 'OUTCOME_UNKNOWN', unsure: true }],
  ['conclave: result forgotten', { code: 'OUTCOME_UNKNOWN', unsure: true }],
];

const statuses: Readonly<Partial<Record<number, Row>>> = {
  [Status.CANCELLED]: { code: 'UNREACHABLE', unsure: true },
  [Status.UNKNOWN]: { code: 'INTERNAL', unsure: true },
  [Status.INVALID_ARGUMENT]: { code: 'INVALID_ARGUMENT' },
  [Status.DEADLINE_EXCEEDED]: { code: 'TIMEOUT', unsure: true },
  [Status.NOT_FOUND]: { code: 'NOT_FOUND' },
  [Status.ALREADY_EXISTS]: { code: 'FAILED_PRECONDITION' },
  [Status.PERMISSION_DENIED]: { code: 'PERMISSION_DENIED' },
  [Status.RESOURCE_EXHAUSTED]: { code: 'RESOURCE_EXHAUSTED', unsure: true },
  [Status.FAILED_PRECONDITION]: { code: 'FAILED_PRECONDITION' },
  [Status.ABORTED]: { code: 'UNREACHABLE', unsure: true },
  [Status.OUT_OF_RANGE]: { code: 'INVALID_ARGUMENT' },
  [Status.UNIMPLEMENTED]: { code: 'UNIMPLEMENTED' },
  [Status.INTERNAL]: { code: 'UNREACHABLE', unsure: true },
  [Status.UNAVAILABLE]: { code: 'UNREACHABLE', unsure: true, member: true },
  [Status.DATA_LOSS]: { code: 'CORRUPT', unsure: true },
  [Status.UNAUTHENTICATED]: { code: 'UNAUTHENTICATED' },
};

const rowOf = (status: number, details: string): Row =>
  texts.find(([text]) => details.includes(text))?.[1] ??
  statuses[status] ?? { code: 'INTERNAL', unsure: true };

/** The error for a text that arrives outside a status, such as the reason of a canceled watch. */
export const errorOfText = (text: string): ConclaveError =>
  new ConclaveError(rowOf(Status.FAILED_PRECONDITION, text).code, text);

/**
 * @param signal the caller's, for the reason of an abort
 * @param ambiguous whether an earlier attempt of this call may have taken effect
 */
export const judge = (
  failure: unknown,
  effect: Effect,
  signal?: AbortSignal,
  ambiguous = false,
): Verdict => {
  if (!(failure instanceof TransportFailure)) {
    const message = failure instanceof Error ? failure.message : String(failure);
    return settled(
      true,
      new ConclaveError('INTERNAL', message, { cause: failure, outcome: doubt(effect, true) }),
    );
  }
  const { kind, status, details, sent } = failure;
  const outcome = doubt(effect, sent || ambiguous);
  if (kind === 'aborted') {
    return settled(
      sent,
      new ConclaveError('ABORTED', 'The call was aborted by its signal', {
        cause: signal?.reason ?? failure,
        outcome,
      }),
    );
  }
  if (kind === 'timeout') {
    return settled(sent, new ConclaveError('TIMEOUT', details, { cause: failure, outcome }));
  }
  const row = rowOf(status, details);
  const maybeApplied = kind === 'closed' ? sent : row.unsure === true && sent;
  const transient =
    kind === 'closed' ||
    kind === 'unnumbered' ||
    row.refused === true ||
    row.code === 'UNREACHABLE';
  const numbered = effect === 'numbered';
  const doubtful = maybeApplied || (ambiguous && !(numbered && row.result === true));
  const lost = doubt(effect, maybeApplied || (numbered && ambiguous)) === 'unknown' && transient;
  return {
    error: new ConclaveError(lost ? 'OUTCOME_UNKNOWN' : row.code, messageOf(details, lost), {
      cause: failure,
      outcome: doubt(effect, doubtful),
      ...(transient || lost ? { retryable: !lost } : {}),
    }),
    again: transient && (effect !== 'write' || !maybeApplied),
    elsewhere: row.member === true || neverConnected(details),
    unsure: maybeApplied,
  };
};

const settled = (unsure: boolean, error: ConclaveError): Verdict => ({
  error,
  again: false,
  elsewhere: false,
  unsure,
});

const doubt = (effect: Effect, maybeApplied: boolean): Outcome =>
  effect !== 'read' && maybeApplied ? 'unknown' : 'not-applied';

const messageOf = (details: string, lost: boolean): string =>
  lost ? `The write was sent but its answer was lost: ${details}` : details;
