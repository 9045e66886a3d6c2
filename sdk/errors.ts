/**
 * The one error type of the SDK and the recipes. Match on `code`, never on the message or on
 * `instanceof`: an application may hold two copies of this package.
 */

/** Everything that can go wrong, as a closed union. */
export type ErrorCode =
  /** An argument or option is not allowed; the message names it, what was given and what is allowed. */
  | 'INVALID_ARGUMENT'
  /** No endpoint could be reached, or the cluster has no leader. */
  | 'UNREACHABLE'
  /** The call's own timeout passed. */
  | 'TIMEOUT'
  /** The caller's signal aborted; `cause` is `signal.reason`. */
  | 'ABORTED'
  /** A write was sent and its answer was lost: it may or may not have been applied. */
  | 'OUTCOME_UNKNOWN'
  /** The revision asked for is older than the oldest one kept. */
  | 'COMPACTED'
  /** The revision asked for does not exist yet. */
  | 'FUTURE_REVISION'
  /** `ignoreValue` or `ignoreLease` was used on a key that does not exist. */
  | 'KEY_NOT_FOUND'
  | 'LEASE_NOT_FOUND'
  | 'LEASE_EXISTS'
  /** The store's disk quota is used up; deletes and compactions still work. */
  | 'NO_SPACE'
  /** The request exceeds the server's size limit. */
  | 'TOO_LARGE'
  /** A transaction holds more operations than the server allows. */
  | 'TOO_MANY_OPERATIONS'
  /** A transaction writes one key twice. */
  | 'DUPLICATE_KEY'
  | 'PERMISSION_DENIED'
  | 'UNAUTHENTICATED'
  /** The server does not know this call. */
  | 'UNIMPLEMENTED'
  /** The server is overloaded and refused the call before doing anything. */
  | 'RESOURCE_EXHAUSTED'
  /** The server found its data damaged. */
  | 'CORRUPT'
  /** The server is not in the state the call needs. */
  | 'FAILED_PRECONDITION'
  /** A named thing (member, queue item, ...) does not exist. */
  | 'NOT_FOUND'
  /** Another process hosts the store in this directory. */
  | 'DATA_DIRECTORY_IN_USE'
  /** The session's keep-alives are failing; its lease may still live. */
  | 'SESSION_SUSPENDED'
  /** The session's lease has expired, was revoked, or must be assumed expired. */
  | 'SESSION_LOST'
  /** A lock that was held is not held any more. */
  | 'LOCK_LOST'
  /** The handle does not hold what the call needs it to hold. */
  | 'NOT_HELD'
  /** The handle was released before. */
  | 'RELEASED'
  /** It could not be acquired within the time given. */
  | 'NOT_ACQUIRED'
  /** A queue item's claim passed to another worker. */
  | 'CLAIM_LOST'
  | 'LEADERSHIP_LOST'
  /** A generation of a cyclic barrier will never be complete. */
  | 'BARRIER_BROKEN'
  /** Concurrent writers won more often than the bounded retries allow. */
  | 'CONFLICT'
  /** A bounded structure has no room. */
  | 'FULL'
  /** Something with this name exists with other settings. */
  | 'MISMATCH'
  /** A value could not be encoded or decoded. */
  | 'CODEC'
  /** The client, session, watch or handle was closed. */
  | 'CLOSED'
  /** A defect in this package or in the server. */
  | 'INTERNAL';

/**
 * What is known about the effect of a write that failed. For reads it is always `not-applied`.
 *
 * - `applied`: it took effect; only the answer could not be used.
 * - `not-applied`: it had no effect and never will.
 * - `unknown`: it may have had its effect, or may still have it.
 */
export type Outcome = 'applied' | 'not-applied' | 'unknown';

export type ConclaveErrorOptions = {
  /** Whether the same call may succeed later. @default by code */
  readonly retryable?: boolean;
  /** @default 'unknown' for OUTCOME_UNKNOWN, else 'not-applied' */
  readonly outcome?: Outcome;
  /** What the reader can do about it, as a sentence. @default by code, for some codes */
  readonly remedy?: string;
  readonly cause?: unknown;
};

const brand = Symbol.for('conclave.error');

const retryableCodes: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'UNREACHABLE',
  'TIMEOUT',
  'RESOURCE_EXHAUSTED',
  'SESSION_SUSPENDED',
  'NOT_ACQUIRED',
  'CONFLICT',
  'FULL',
]);

const remedies: Partial<Record<ErrorCode, string>> = {
  UNREACHABLE: 'Check that a server listens on one of the endpoints and that a leader is elected.',
  OUTCOME_UNKNOWN: 'Read the key back before writing again, or make the write conditional.',
  COMPACTED: 'Read the current state and continue from its revision.',
  NO_SPACE: 'Delete keys and compact, or raise the quota of the server.',
  TOO_LARGE: 'Keep large payloads elsewhere and store a reference to them.',
  TOO_MANY_OPERATIONS: 'Split the transaction, or raise --max-txn-ops on the server.',
  DUPLICATE_KEY: 'Write each key at most once in a transaction.',
  SESSION_LOST: 'Open a new session and acquire again.',
  BARRIER_BROKEN: 'Reset the barrier, once for all parties, and wait again.',
  RESOURCE_EXHAUSTED: 'Retry later with back-off.',
};

export class ConclaveError extends Error {
  override readonly name: string = 'ConclaveError';
  readonly code: ErrorCode;
  /** Whether the same call may succeed later. Says nothing about the first attempt: see `outcome`. */
  readonly retryable: boolean;
  readonly outcome: Outcome;
  /** What the reader can do about it. */
  readonly remedy?: string;

  constructor(code: ErrorCode, message: string, options: ConclaveErrorOptions = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    this.code = code;
    this.retryable = options.retryable ?? retryableCodes.has(code);
    this.outcome = options.outcome ?? (code === 'OUTCOME_UNKNOWN' ? 'unknown' : 'not-applied');
    const remedy = options.remedy ?? remedies[code];
    if (remedy !== undefined) this.remedy = remedy;
    Object.defineProperty(this, brand, { value: true });
  }
}

/** Whether `error` is a ConclaveError of any copy of this package and, if given, has this code. */
export const isConclaveError = (error: unknown, code?: ErrorCode): error is ConclaveError =>
  typeof error === 'object' &&
  error !== null &&
  brand in error &&
  (code === undefined || ('code' in error && error.code === code));

/** An INVALID_ARGUMENT that names the field, what was given and what is allowed. */
export const invalidArgument = (field: string, given: unknown, allowed: string): ConclaveError =>
  new ConclaveError(
    'INVALID_ARGUMENT',
    `Cannot use ${describe(given)} as '${field}': it must be ${allowed}`,
  );

/** The caller's signal ended the call. `outcome` is 'unknown' when a write was already sent. */
export const aborted = (signal: AbortSignal, outcome: Outcome = 'not-applied'): ConclaveError =>
  new ConclaveError('ABORTED', 'The call was aborted by its signal', {
    cause: signal.reason,
    outcome,
  });

export const closedError = (cause?: ConclaveError): ConclaveError =>
  new ConclaveError('CLOSED', 'The client is closed', {
    cause,
    outcome: cause?.outcome ?? 'not-applied',
  });

/** Rejects early: throws ABORTED when the signal has aborted already. */
export const throwIfAborted = (signal: AbortSignal | undefined): void => {
  if (signal?.aborted) throw aborted(signal);
};

const describe = (value: unknown): string => {
  if (typeof value === 'string') return JSON.stringify(value);
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  if (typeof value === 'object' && value !== null) return 'an object';
  if (typeof value === 'bigint') return `${value}n`;
  return String(value);
};
