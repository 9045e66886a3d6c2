/** How a verb finds its store. */
import type { Command } from 'commander';
import { durationOption } from './arguments.ts';
import { usageError } from './failure.ts';

export type ConnectionOptions = {
  readonly endpoints?: string;
  readonly directory?: string;
  /** Milliseconds. */
  readonly timeout?: number;
  /** How long to look for a server that accepts, without --timeout. @default by target: short */
  readonly connectTimeoutMs?: number;
};

export type OutputOptions = { readonly output?: string };

export type CommonOptions = ConnectionOptions & OutputOptions;

const DEFAULT_ENDPOINT = '127.0.0.1:2379';

/** Somebody waits at the prompt, and a server that is there accepts at once. */
const CONNECT_TIMEOUT_PER_ENDPOINT_MS = 2_000;
const LONGEST_CONNECT_TIMEOUT_MS = 10_000;

/** Adds the options by which a verb finds its store. Called for the program too: they may come first. */
export function addConnectionOptions(command: Command): Command {
  return command
    .option(
      '--endpoints <list>',
      `servers as host:port, with commas between (CONCLAVE_ENDPOINTS, ETCDCTL_ENDPOINTS; default ${DEFAULT_ENDPOINT})`,
    )
    .option('--directory <dir>', 'use the store shared by the processes of this machine in DIR');
}

/** @param connecting the default for finding a server, as the help says it */
export const addTimeoutOption = (command: Command, connecting = '2s for each server'): Command =>
  command.option(
    '--timeout <duration>',
    `how long finding a server (default ${connecting}) and then each call (default 10s) may take`,
    durationOption,
  );

/** For verbs whose stdout belongs to the command they run: only their own remarks have a form. */
export const addNotesOption = (command: Command): Command =>
  command.option(
    '-o, --output <form>',
    "json: this program's own remarks, errors and verdict as JSON lines on stderr (default: text)",
  );

export const addOutputOption = (command: Command): Command =>
  command.option(
    '-o, --output <form>',
    'json, jsonl, yaml, table, tsv, raw or template=TEXT with {{field}} (default: table on a terminal, tsv else)',
  );

/** The options that nearly every verb has. */
export const addCommonOptions = (command: Command): Command =>
  addOutputOption(addTimeoutOption(addConnectionOptions(command)));

/** A variable that is set and empty counts as one that is not set. */
const given = (text: string | undefined): string | undefined => (text === '' ? undefined : text);

export type Target = { readonly endpoints: string } | { readonly directory: string };

/** Flags win over variables, and endpoints over a directory of the same origin conflict. */
export function resolveTarget(
  options: ConnectionOptions,
  environment: NodeJS.ProcessEnv = process.env,
): Target {
  const { endpoints, directory } = options;
  if (endpoints === '') throw usageError("cannot use '' as --endpoints: it must be host:port,...");
  if (directory === '') throw usageError("cannot use '' as --directory: it must be a path");
  if (endpoints !== undefined && directory !== undefined) {
    throw usageError('--endpoints and --directory exclude each other');
  }
  if (endpoints !== undefined) return { endpoints };
  if (directory !== undefined) return { directory };
  const exported =
    given(environment['CONCLAVE_ENDPOINTS']) ?? given(environment['ETCDCTL_ENDPOINTS']);
  if (exported !== undefined) return { endpoints: exported };
  const shared = given(environment['CONCLAVE_DIRECTORY']);
  return shared === undefined ? { endpoints: DEFAULT_ENDPOINT } : { directory: shared };
}

/** What `connect` takes, for this target and these limits. */
export function connectOptions(options: ConnectionOptions) {
  const { timeout } = options;
  const target = resolveTarget(options);
  const connectTimeout = timeout ?? options.connectTimeoutMs ?? connectTimeoutFor(target);
  return {
    ...target,
    connectTimeout,
    ...(timeout === undefined ? {} : { requestTimeout: timeout }),
  };
}

/** A store in a directory may have to be opened and recovered first. */
const connectTimeoutFor = (target: Target): number =>
  'directory' in target
    ? LONGEST_CONNECT_TIMEOUT_MS
    : Math.min(
        LONGEST_CONNECT_TIMEOUT_MS,
        CONNECT_TIMEOUT_PER_ENDPOINT_MS * target.endpoints.split(',').length,
      );
