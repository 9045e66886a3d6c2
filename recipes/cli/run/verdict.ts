/** Exit codes of the verbs that run a command. */
import { isConclaveError } from '../../../sdk/errors.ts';
import { exitCodes, signalExitCode } from '../exit-codes.ts';
import { CliError, report } from '../failure.ts';
import type { SignalRelay } from './signal-relay.ts';

/** The code of a run that ended with an error of ours; reports it unless it speaks for itself. */
export function verdictOf(error: unknown, relay: SignalRelay, notAcquired: number): number {
  if (relay.signalNumber !== undefined && isConclaveError(error, 'ABORTED')) {
    return signalExitCode(relay.signalNumber);
  }
  const exitCode = report(error);
  if (isConclaveError(error, 'NOT_ACQUIRED')) return notAcquired;
  return error instanceof CliError ? exitCode : exitCodes.wrapperFailed;
}
