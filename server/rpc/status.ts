/** How a failure looks on the wire. */
import { Fault, Status, type StatusCode } from '../faults.ts';

export type CallStatus = { readonly code: StatusCode; readonly details: string };

/** A refusal that etcd has no text for; the message names the field, the value and what is allowed. */
export class Rejection extends Error {
  override name = 'Rejection';
  readonly status: StatusCode;

  constructor(status: StatusCode, message: string) {
    super(message);
    this.status = status;
  }
}

/** The texts that Go's context errors have on the wire. */
const CONTEXT_CANCELED: CallStatus = {
  code: Status.CANCELED,
  details: 'context canceled',
};
export const CONTEXT_DEADLINE: CallStatus = {
  code: Status.DEADLINE_EXCEEDED,
  details: 'context deadline exceeded',
};
export const UNDECODABLE: CallStatus = {
  code: Status.INTERNAL,
  details: 'the request message cannot be decoded: it is not valid protobuf of this method',
};

/**
 * An unexpected error becomes INTERNAL without its own text, which may hold paths or values; the
 * caller of this logs it.
 */
export function statusOf(error: unknown): CallStatus {
  if (error instanceof Fault || error instanceof Rejection) {
    return { code: error.status, details: error.message };
  }
  if (error instanceof Error && error.name === 'AbortError') return CONTEXT_CANCELED;
  if (error instanceof Error && error.name === 'TimeoutError') return CONTEXT_DEADLINE;
  return { code: Status.INTERNAL, details: 'internal error: the log of the member has the cause' };
}

/** Whether the failure is a bug or a broken disk rather than an answer. */
export const isUnexpected = (status: CallStatus): boolean => status.code === Status.INTERNAL;
