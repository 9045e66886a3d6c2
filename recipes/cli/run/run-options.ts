/** The options that all verbs share that run a command. */
import { type Command, Option } from 'commander';
import { durationOption } from '../arguments.ts';
import {
  addConnectionOptions,
  addNotesOption,
  addTimeoutOption,
  type CommonOptions,
} from '../connection.ts';
import { CliError, usageError } from '../failure.ts';
import { assertExecutable, CommandUnusable } from './executable.ts';
import type { LossPolicy, OnLost } from './supervise.ts';

export type RunOptions = CommonOptions & {
  /** Milliseconds. */
  readonly ttl: number;
  /** Milliseconds. @default 5 s, but at most a third of the TTL */
  readonly grace?: number;
  readonly onLost: OnLost;
  readonly foreground?: boolean;
  /** The whole command as a text for the shell. */
  readonly command?: string;
};

const DEFAULT_TTL_MS = 15_000;
const LONGEST_DEFAULT_GRACE_MS = 5_000;
/** Renewals happen three times a TTL: one may fail before the command has to stop. */
const GRACES_PER_TTL = 3;

/** @param options.terminal whether the command may use the terminal. @default true */
export function addRunOptions(
  command: Command,
  { terminal = true }: { readonly terminal?: boolean } = {},
): Command {
  addNotesOption(addTimeoutOption(addConnectionOptions(command), '10s'))
    .argument('[command...]', 'the command and its arguments, after --')
    .addOption(
      new Option('--ttl <duration>', 'how long others wait after this process died or was cut off')
        .argParser(durationOption)
        .default(DEFAULT_TTL_MS, '15s'),
    )
    .addOption(
      new Option(
        '--grace <duration>',
        'time between TERM and KILL on loss; at most a third of --ttl (default: 5s, or that third if it is less)',
      ).argParser(durationOption),
    )
    .addOption(
      new Option('--on-lost <act>', 'on loss: TERM, then KILL; KILL; or only USR1 to the command')
        .choices(['term', 'kill', 'notify'])
        .default('term'),
    )
    .option('-c, --command <text>', 'run this text in a shell instead of a command after --');
  if (!terminal) return command;
  return command
    .option('--foreground', 'let the command use the terminal; its children are not killed')
    .option('--no-foreground', 'give the command a session of its own even on a terminal');
}

/** A command may be started while its servers are, by a boot or a deployment: it waits for them. */
const CONNECT_TIMEOUT_MS = 10_000;

/** What `withClient` takes, for a verb that runs a command. */
export const runConnection = <Options extends RunOptions>(options: Options) => ({
  ...options,
  connectTimeoutMs: CONNECT_TIMEOUT_MS,
});

export type Run = {
  readonly command: readonly [string, ...string[]];
  readonly foreground: boolean;
  readonly policy: LossPolicy;
};

const noteForms: ReadonlySet<string | undefined> = new Set([undefined, 'json', 'jsonl']);

/**
 * Checks everything that can be checked before anything is locked.
 *
 * @param tenureMs the shortest time for which the right to run is given at once. @default the TTL
 * @throws CliError
 */
export function prepareRun(
  words: readonly string[],
  options: RunOptions,
  tenureMs: number = options.ttl,
): Run {
  if (process.platform === 'win32') {
    throw new CliError('running commands needs process groups, which Windows does not have', 125);
  }
  if (!noteForms.has(options.output)) {
    throw usageError(
      `cannot use '${options.output}' as --output: it must be json; stdout is the command's own`,
    );
  }
  if (options.ttl <= 0) throw usageError('cannot use 0 as --ttl: it must be more than 0');
  const graceMs =
    options.grace ??
    Math.min(
      LONGEST_DEFAULT_GRACE_MS,
      Math.floor(Math.min(tenureMs, options.ttl) / GRACES_PER_TTL),
    );
  if (options.ttl < GRACES_PER_TTL * graceMs) {
    throw usageError(
      `cannot use ${graceMs} ms as --grace: it must be at most a third of --ttl, which is ${options.ttl} ms`,
    );
  }
  return {
    command: commandOf(words, options.command),
    // A command in a session of its own cannot read from the terminal nor be stopped by Ctrl-Z.
    foreground: options.foreground ?? process.stdin.isTTY ?? false,
    policy: { onLost: options.onLost, graceMs },
  };
}

function commandOf(
  words: readonly string[],
  text: string | undefined,
): readonly [string, ...string[]] {
  const [command, ...commandArguments] = words;
  if (text !== undefined) {
    if (command !== undefined) throw usageError('-c takes the whole command: nothing after --');
    return ['/bin/sh', '-c', text];
  }
  if (command === undefined) throw usageError('the command is missing: give it after --');
  try {
    assertExecutable(command, process.env['PATH'] ?? '');
  } catch (error) {
    if (error instanceof CommandUnusable) throw new CliError(error.message, error.exitCode);
    throw error;
  }
  return [command, ...commandArguments];
}

/**
 * Refuses `VERB -- COMMAND`, whose first word would be taken for the name.
 *
 * @param what the argument that comes before `--`, as the usage shows it
 * @param operands how many arguments there are, the command's included
 * @throws CliError
 */
export function requireName(verb: Command, what: string, operands: number): void {
  const { rawArgs } = rootOf(verb);
  const separator = rawArgs.indexOf('--');
  if (separator < 0 || rawArgs.length - separator - 1 < operands) return;
  throw usageError(`${what} is missing: give it before --`);
}

const rootOf = (command: Command): Command & { readonly rawArgs: readonly string[] } =>
  command.parent === null
    ? (command as Command & { readonly rawArgs: readonly string[] })
    : rootOf(command.parent);
