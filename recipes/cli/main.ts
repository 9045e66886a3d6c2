/** The command line: reads it, runs the verb, ends with an exit code that says what happened. */
import { runCommandLine } from './command-line.ts';
import { signalExitCode } from './exit-codes.ts';
import { report } from './failure.ts';

const SIGPIPE = 13;

/** Who read our output has gone, as when piped to `head`: end as a program that gets the signal. */
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  process.exit(error.code === 'EPIPE' ? signalExitCode(SIGPIPE) : report(error));
});
process.stderr.on('error', () => undefined);

const flush = (stream: NodeJS.WriteStream): Promise<void> =>
  new Promise((resolve) => stream.write('', () => resolve()));

void runCommandLine(process.argv.slice(2)).then(async (exitCode) => {
  await Promise.all([flush(process.stdout), flush(process.stderr)]);
  // A connection that closes slowly must not keep the program.
  process.exit(exitCode);
});
