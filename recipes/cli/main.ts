#!/usr/bin/env node
/** The command line: reads it, runs the verb, ends with an exit code that says what happened. */
import { createRequire } from 'node:module';
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

// A server is a few hundred modules, and import() reads each on the thread pool. require() takes them
// all in one go, a sixth of the time to the first request, and import() then finds them loaded.
if (process.argv[2] === 'serve' && process.features.require_module) {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  try {
    createRequire(import.meta.url)(`./verbs/serve.${extension}`);
  } catch {
    // The verb says what is wrong when it is loaded again.
  }
}

const exitCode = await runCommandLine(process.argv.slice(2));
await Promise.all([flush(process.stdout), flush(process.stderr)]);
// A connection that closes slowly must not keep the program.
process.exit(exitCode);
