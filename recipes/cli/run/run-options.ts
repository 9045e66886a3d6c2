/** The options that all verbs share that run a command. */
import { type Command, Option } from 'commander';
import { durationOption } from '../arguments.ts';
import { addConnectionOptions, addTimeoutOption, type ConnectionOptions } from '../connection.ts';
import { CliError, usageError } from '../failure.ts';
import { assertExecutable, CommandUnusable } from './executable.ts';
import type { LossPolicy, OnLost } from './supervise.ts';

export type RunOptions = ConnectionOptions & {
  /** Milliseconds. */
  readonly ttl: number;
  /** Milliseconds. */
  readonly grace: number;
  readonly onLost: OnLost;
  readonly foreground?: boolean;
  /** The whole command as a text for the shell. */
  readonly command?: string;
};

const DEFAULT_TTL_MS = 15_000;
const DEFAULT_GRACE_MS = 5_000;
/** Renewals happen three times a TTL: one may fail before the command has to stop. */
const GRACES_PER_TTL = 3;

/** @param options.terminal whether the command may use the terminal. @default true */
export function addRunOptions(
  command: Command,
  { terminal = true }: { readonly terminal?: boolean } = {},
): Command {
  addTimeoutOption(addConnectionOptions(command), '10s')
    .argument('[command...]', 'the command and its arguments, after --')
    .addOption(
      new Option('--ttl <duration>', 'how long others wait after this process died or was cut off')
        .argParser(durationOption)
        .default(DEFAULT_TTL_MS, '15s'),
    )
    .addOption(
      new Option(
        '--grace <duration>',
        'time between TERM and KILL on loss; at most a third of --ttl',
      )
        .argParser(durationOption)
        .default(DEFAULT_GRACE_MS, '5s'),
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

/**
 * Checks everything that can be checked before anything is locked.
 *
 * @throws CliError
 */
export function prepareRun(words: readonly string[], options: RunOptions): Run {
  if (process.platform === 'win32') {
    throw new CliError('running commands needs process groups, which Windows does not have', 125);
  }
  if (options.ttl < GRACES_PER_TTL * options.grace) {
    throw usageError(
      `cannot use ${options.grace} ms as --grace: it must be at most a third of --ttl, which is ${options.ttl} ms`,
    );
  }
  return {
    command: commandOf(words, options.command),
    // A command in a session of its own cannot read from the terminal nor be stopped by Ctrl-Z.
    foreground: options.foreground ?? process.stdin.isTTY ?? false,
    policy: { onLost: options.onLost, graceMs: options.grace },
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
