import type { ConclaveError, ErrorCode } from '../../sdk/errors.ts';

/** What the process's exit code says. Run verbs otherwise pass the command's own code through. */
export const exitCodes = {
  done: 0,
  failed: 1,
  usage: 2,
  /** Not found, or a condition that did not hold. */
  notFound: 3,
  denied: 4,
  /** No endpoint answered, or the cluster has no quorum. */
  unreachable: 5,
  /** A write was sent and its answer was lost. */
  outcomeUnknown: 6,
  /** Lock or leadership lost, the command was stopped. */
  lost: 123,
  /** Not acquired within --wait. */
  notAcquired: 124,
  /** conclave itself failed while it ran a command. */
  wrapperFailed: 125,
  notExecutable: 126,
  commandNotFound: 127,
} as const;

/** A process that died of signal n, as shells report it. */
export const signalExitCode = (signalNumber: number): number => 128 + signalNumber;

const byCode: Partial<Record<ErrorCode, number>> = {
  INVALID_ARGUMENT: exitCodes.usage,
  KEY_NOT_FOUND: exitCodes.notFound,
  LEASE_NOT_FOUND: exitCodes.notFound,
  NOT_FOUND: exitCodes.notFound,
  PERMISSION_DENIED: exitCodes.denied,
  UNAUTHENTICATED: exitCodes.denied,
  UNREACHABLE: exitCodes.unreachable,
  TIMEOUT: exitCodes.unreachable,
  DATA_DIRECTORY_IN_USE: exitCodes.unreachable,
  NOT_ACQUIRED: exitCodes.notAcquired,
  LOCK_LOST: exitCodes.lost,
  LEADERSHIP_LOST: exitCodes.lost,
};

export const exitCodeOf = (error: ConclaveError): number =>
  error.outcome === 'unknown' ? exitCodes.outcomeUnknown : (byCode[error.code] ?? exitCodes.failed);
