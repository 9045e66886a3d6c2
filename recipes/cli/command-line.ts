import { type Command, CommanderError } from 'commander';
import { exitCodes } from './exit-codes.ts';
import { CliError, report, usageError } from './failure.ts';
import { keepCompiledCode } from './packed/code-cache.ts';
import { parseErrorText } from './parse-errors.ts';
import { buildProgram } from './program.ts';
import { speakJson } from './stderr.ts';
import { pathOf } from './verb.ts';

/** Without what comes after `--`: that is another's. */
const ownPart = (argv: readonly string[]): readonly string[] =>
  argv.includes('--') ? argv.slice(0, argv.indexOf('--')) : argv;

/** Also what cannot be parsed is reported in the form that was asked for. */
function wantsJson(own: readonly string[]): boolean {
  const forms = own.flatMap((word, index) => {
    if (word === '-o' || word === '--output') return own[index + 1] ?? [];
    return /^(?:-o|--output=)(.+)$/s.exec(word)?.[1] ?? [];
  });
  return ['json', 'jsonl'].includes(forms.at(-1) ?? '');
}

/** Points to the help of the verb that was used wrongly. */
const withHelp = (error: unknown, verb: Command | undefined): unknown =>
  error instanceof CliError &&
  error.exitCode === exitCodes.usage &&
  error.remedy === undefined &&
  verb !== undefined
    ? new CliError(error.message, error.exitCode, `see '${pathOf(verb)} --help'`)
    : error;

/** Runs one command line. Never rejects: the exit code says how it went. */
export async function runCommandLine(argv: readonly string[]): Promise<number> {
  const own = ownPart(argv);
  // Both must be known before anything is written.
  if (own.includes('--no-color')) process.env['NO_COLOR'] = '1';
  const json = wantsJson(own);
  speakJson(json);
  let verb: Command | undefined;
  const program = buildProgram()
    .hook('preAction', (_program, action) => {
      verb = action;
    })
    // Only what did its work has run what the next one will.
    .hook('postAction', keepCompiledCode);
  try {
    await program.parseAsync(argv, { from: 'user' });
    return Number(process.exitCode ?? exitCodes.done);
  } catch (error) {
    if (!(error instanceof CommanderError)) return report(withHelp(error, verb));
    // Help and version were asked for; everything else commander has already explained in text.
    if (error.exitCode === 0) return exitCodes.done;
    return json ? report(usageError(parseErrorText(error.message))) : exitCodes.usage;
  }
}
