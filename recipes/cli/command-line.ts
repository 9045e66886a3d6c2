import { CommanderError } from 'commander';
import { exitCodes } from './exit-codes.ts';
import { report } from './failure.ts';
import { buildProgram } from './program.ts';

/** Colours must be off before anything is written. */
function forbidColours(argv: readonly string[]): void {
  const own = argv.includes('--') ? argv.slice(0, argv.indexOf('--')) : argv;
  if (own.includes('--no-color')) process.env['NO_COLOR'] = '1';
}

/** Runs one command line. Never rejects: the exit code says how it went. */
export async function runCommandLine(argv: readonly string[]): Promise<number> {
  forbidColours(argv);
  try {
    await buildProgram().parseAsync(argv, { from: 'user' });
    return Number(process.exitCode ?? exitCodes.done);
  } catch (error) {
    if (!(error instanceof CommanderError)) return report(error);
    // Help and version were asked for; everything else commander has already explained.
    return error.exitCode === 0 ? exitCodes.done : exitCodes.usage;
  }
}
