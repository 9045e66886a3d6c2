/** How a verb that runs a command ends. */
import { isConclaveError } from '../../../sdk/errors.ts';
import { exitCodes, signalExitCode } from '../exit-codes.ts';
import { CliError, report } from '../failure.ts';
import { tell } from '../stderr.ts';
import type { Execution } from './execute.ts';
import type { SignalRelay } from './signal-relay.ts';

export type Verdict = {
  readonly exitCode: number;
  readonly reason:
    | 'command-ended'
    | 'lost'
    /** A signal came while no command ran, or while jobs were finishing. */
    | 'interrupted'
    | 'not-acquired'
    /** No job was ready. */
    | 'drained'
    | 'error';
};

export const interrupted = (signalNumber: number): Verdict => ({
  exitCode: signalExitCode(signalNumber),
  reason: 'interrupted',
});

export const verdictOn = ({ lost, exitCode }: Execution): Verdict =>
  lost ? { exitCode: exitCodes.lost, reason: 'lost' } : { exitCode, reason: 'command-ended' };

/** Says how it ended, to programs; the exit code says it to everybody. */
export function conclude({ exitCode, reason }: Verdict): void {
  tell({ event: 'finished', exitCode, reason });
  process.exitCode = exitCode;
}

/** The verdict on a run that ended with an error of ours; reports it unless it speaks for itself. */
export function verdictOf(error: unknown, relay: SignalRelay, notAcquired: number): Verdict {
  if (relay.signalNumber !== undefined && isConclaveError(error, 'ABORTED')) {
    return interrupted(relay.signalNumber);
  }
  const exitCode = report(error);
  if (isConclaveError(error, 'NOT_ACQUIRED')) {
    return { exitCode: notAcquired, reason: 'not-acquired' };
  }
  const ownCode = error instanceof CliError || isConclaveError(error, 'INVALID_ARGUMENT');
  return { exitCode: ownCode ? exitCode : exitCodes.wrapperFailed, reason: 'error' };
}
