import { Command } from 'commander';
import { catalog, type Entry } from './catalog.ts';
import { addConnectionOptions, addOutputOption } from './connection.ts';
import { exitCodes } from './exit-codes.ts';
import { parseErrorText } from './parse-errors.ts';
import { speaksJson } from './stderr.ts';
import { addExamples, pathOf, type VerbModule } from './verb.ts';
import { packageVersion } from './version.ts';

const exitCodeHelp = `
Exit codes:
  0 done   1 failed   2 wrong usage   3 not found, or condition false   4 denied
  5 unreachable or no quorum   6 outcome of a write unknown
  lock, elect and work pass the command's own code through, 128+n when signal n ended it, and use
  ${exitCodes.lost} lost, command stopped   ${exitCodes.notAcquired} not acquired within --wait
  ${exitCodes.wrapperFailed} conclave failed, unreachable included   126 command not executable   127 command not found`;

/** The whole command line. Verbs define themselves when they are about to be used. */
export function buildProgram(): Command {
  const program = new Command('conclave')
    .description('Locks, elections, queues and the store below them, from the command line.')
    .exitOverride()
    .enablePositionalOptions()
    .configureOutput({
      // With JSON on stderr, whoever runs the program reports what it throws.
      writeErr: (text) => void (speaksJson() || process.stderr.write(text)),
      outputError: (text, write) => write(`error: ${parseErrorText(text)}\n`),
    })
    .showHelpAfterError("see 'conclave --help'")
    .helpOption('--help', 'show help')
    .helpCommand('help [verb...]', 'show the help of a verb')
    .version(packageVersion(), '--version', 'show the version')
    .option('--no-color', 'no colours (also NO_COLOR)')
    .addHelpText('after', exitCodeHelp);
  addOutputOption(addConnectionOptions(program));
  program.hook('preAction', (_program, verb) => inheritOptions(program, verb));
  mount(program, catalog);
  return program;
}

/** What was given before the verb holds for the verb, unless it was given after it, too. */
function inheritOptions(program: Command, verb: Command): void {
  for (const option of verb.options) {
    const name = option.attributeName();
    const value: unknown = program.getOptionValue(name);
    if (value !== undefined && verb.getOptionValue(name) === undefined) {
      verb.setOptionValue(name, value);
    }
  }
}

function mount(parent: Command, entries: readonly Entry[]): void {
  const modules = new Map<Command, () => Promise<VerbModule>>();
  for (const entry of entries) {
    const command = parent
      .command(entry.name)
      .summary(entry.summary)
      .description(sentence(entry.summary));
    command.showHelpAfterError(`see '${pathOf(command)} --help'`);
    if (entry.group !== undefined) command.helpGroup(entry.group);
    if ('verbs' in entry) {
      addExamples(command.enablePositionalOptions(), entry.examples);
      mount(command, entry.verbs);
    } else {
      modules.set(command, entry.load);
    }
  }
  parent.hook('preSubcommand', async (_parent, subcommand) => {
    const load = modules.get(subcommand);
    if (load === undefined) return;
    modules.delete(subcommand);
    (await load()).define(subcommand);
  });
}

const sentence = (summary: string): string =>
  `${summary.charAt(0).toUpperCase()}${summary.slice(1)}.`;
