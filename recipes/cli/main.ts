#!/usr/bin/env node
/** The command line: reads it, runs the verb, ends with an exit code that says what happened. */
import { CommanderError } from 'commander';
import { exitCodes, signalExitCode } from './exit-codes.ts';
import { report } from './failure.ts';
import { buildProgram } from './program.ts';

const SIGPIPE = 13;

/** Who read our output has gone, as when piped to `head`: end as a program that gets the signal. */
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(signalExitCode(SIGPIPE));
  process.exit(report(error));
});
process.stderr.on('error', () => undefined);

function exitCodeOf(error: unknown): number {
  if (!(error instanceof CommanderError)) return report(error);
  // Help and version were asked for; everything else commander has already explained.
  return error.exitCode === 0 ? exitCodes.done : exitCodes.usage;
}

const flush = (stream: NodeJS.WriteStream): Promise<void> =>
  new Promise((resolve) => stream.write('', () => resolve()));

/** Colours must be off before anything is written. */
function forbidColours(argv: readonly string[]): void {
  if (argv.includes('--no-color')) process.env['NO_COLOR'] = '1';
}

async function main(argv: readonly string[]): Promise<void> {
  forbidColours(argv.slice(0, argv.includes('--') ? argv.indexOf('--') : argv.length));
  let exitCode: number | undefined;
  try {
    await buildProgram().parseAsync(argv, { from: 'user' });
  } catch (error) {
    exitCode = exitCodeOf(error);
  }
  await Promise.all([flush(process.stdout), flush(process.stderr)]);
  // A connection that closes slowly must not keep the program.
  process.exit(exitCode ?? process.exitCode ?? exitCodes.done);
}

await main(process.argv.slice(2));
