/** Errors as people read them: a sentence, its cause, what to do, a code to look up. On stderr. */
import { styleText } from 'node:util';
import { isConclaveError } from '../../sdk/errors.ts';
import { exitCodeOf, exitCodes } from './exit-codes.ts';

/** A failure of the command line itself: it names what was given and what is allowed. */
export class CliError extends Error {
  override name = 'CliError';
  readonly exitCode: number;
  readonly remedy: string | undefined;

  constructor(message: string, exitCode: number = exitCodes.failed, remedy?: string) {
    super(message);
    this.exitCode = exitCode;
    this.remedy = remedy;
  }
}

export const usageError = (message: string): CliError => new CliError(message, exitCodes.usage);

const label = (text: string): string => styleText('red', text, { stream: process.stderr });

/** A remark that is not data. */
export function note(text: string): void {
  process.stderr.write(`conclave: ${text}\n`);
}

function causesOf(error: Error): string[] {
  const causes: string[] = [];
  let cause = error.cause;
  while (cause instanceof Error && causes.length < 5) {
    if (cause.message !== '' && !error.message.includes(cause.message)) causes.push(cause.message);
    cause = cause.cause;
  }
  return causes;
}

/** Writes the error to stderr and returns the exit code it stands for. */
export function report(error: unknown): number {
  const lines: string[] = [];
  let exitCode: number = exitCodes.failed;
  if (isConclaveError(error)) {
    exitCode = exitCodeOf(error);
    lines.push(`${label('error:')} ${error.message}`);
    lines.push(...causesOf(error).map((cause) => `  cause: ${cause}`));
    if (error.remedy !== undefined) lines.push(`  remedy: ${error.remedy}`);
    lines.push(`  code: ${error.code}`);
  } else if (error instanceof CliError) {
    exitCode = error.exitCode;
    lines.push(`${label('error:')} ${error.message}`);
    lines.push(...causesOf(error).map((cause) => `  cause: ${cause}`));
    if (error.remedy !== undefined) lines.push(`  remedy: ${error.remedy}`);
  } else {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    lines.push(`${label('error:')} ${text}`, '  code: INTERNAL');
  }
  process.stderr.write(`${lines.join('\n')}\n`);
  return exitCode;
}
