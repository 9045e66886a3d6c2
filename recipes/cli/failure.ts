/** Errors as people read them: a sentence, its cause, what to do, a code to look up. On stderr. */
import { styleText } from 'node:util';
import { isConclaveError } from '../../sdk/errors.ts';
import { exitCodeOf, exitCodes } from './exit-codes.ts';
import type { JsonObject } from './output/json.ts';
import { speaksJson, tell } from './stderr.ts';

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

function causesOf(error: Error): string[] {
  const causes: string[] = [];
  let cause = error.cause;
  while (cause instanceof Error && causes.length < 5) {
    if (cause.message !== '' && !error.message.includes(cause.message)) causes.push(cause.message);
    cause = cause.cause;
  }
  return causes;
}

const codeOfExit: Readonly<Partial<Record<number, string>>> = {
  [exitCodes.usage]: 'INVALID_ARGUMENT',
  [exitCodes.notExecutable]: 'NOT_EXECUTABLE',
  [exitCodes.commandNotFound]: 'COMMAND_NOT_FOUND',
};

/** The same fields for every error, whoever raised it. */
function errorJson(error: unknown): JsonObject {
  const message = error instanceof Error ? error.message : String(error);
  const causes = error instanceof Error ? causesOf(error) : [];
  if (isConclaveError(error)) {
    const { code, remedy = null, outcome } = error;
    return { code, message, remedy, outcome, causes };
  }
  if (error instanceof CliError) {
    const code = codeOfExit[error.exitCode] ?? 'FAILED';
    return { code, message, remedy: error.remedy ?? null, outcome: 'not-applied', causes };
  }
  return { code: 'INTERNAL', message, remedy: null, outcome: 'unknown', causes };
}

function exitCodeFor(error: unknown): number {
  if (isConclaveError(error)) return exitCodeOf(error);
  return error instanceof CliError ? error.exitCode : exitCodes.failed;
}

/** Writes the error to stderr and returns the exit code it stands for. */
export function report(error: unknown): number {
  if (speaksJson()) tell({ error: errorJson(error) });
  else process.stderr.write(`${textOf(error).join('\n')}\n`);
  return exitCodeFor(error);
}

function textOf(error: unknown): string[] {
  if (!isConclaveError(error) && !(error instanceof CliError)) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return [`${label('error:')} ${text}`, '  code: INTERNAL'];
  }
  const lines = [`${label('error:')} ${error.message}`];
  lines.push(...causesOf(error).map((cause) => `  cause: ${cause}`));
  if (error.remedy !== undefined) lines.push(`  remedy: ${error.remedy}`);
  if (isConclaveError(error)) lines.push(`  code: ${error.code}`);
  return lines;
}
