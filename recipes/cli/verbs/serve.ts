import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { destination, type Logger, multistream, pino } from 'pino';
import {
  type Config,
  ConfigError,
  describeFlags,
  type LoadedConfig,
  loadConfig,
  memberOptions,
  startMember,
} from '../../../server/index.ts';
import { exitCodes } from '../exit-codes.ts';
import { CliError } from '../failure.ts';
import { keepCompiledCode } from '../packed/code-cache.ts';
import { addExamples } from '../verb.ts';

function readConfig(argv: readonly string[]): LoadedConfig {
  try {
    return loadConfig({
      argv,
      environment: process.env,
      readFile: (path) => readFileSync(path, 'utf8'),
    });
  } catch (error) {
    if (error instanceof ConfigError) throw new CliError(error.message, exitCodes.usage);
    throw error;
  }
}

const STDOUT = 1;
const STDERR = 2;

function createLogger({ logLevel, logOutputs }: Config): Logger {
  const descriptorOrPath = (output: string): string | number => {
    if (output === 'stdout') return STDOUT;
    return output === 'stderr' ? STDERR : output;
  };
  // Synchronous: what is logged last before a crash is what matters.
  const streams = logOutputs.map((output) => ({
    level: logLevel,
    stream: destination({ dest: descriptorOrPath(output), sync: true, mkdir: true }),
  }));
  return pino({ name: 'conclave', level: logLevel }, multistream(streams));
}

const remedies: Readonly<Record<string, string>> = {
  EADDRINUSE: 'another program listens there: stop it or name another port',
  EACCES: 'this user may not listen there: name a port from 1024 on or a path of its own',
  EADDRNOTAVAIL: 'this machine does not have that address: name one of its own, or 0.0.0.0',
};

/** The flag is named, and what to do: an address in use is the most common reason not to start. */
function listenFailure(error: Error & NodeJS.ErrnoException, config: Config): CliError | undefined {
  const remedy = error.syscall === 'listen' ? remedies[error.code ?? ''] : undefined;
  if (remedy === undefined) return undefined;
  const { port } = error as { readonly port?: number };
  const listening = [
    ['--listen-client-urls', config.listenClientUrls],
    ['--listen-peer-urls', config.listenPeerUrls],
    ['--listen-metrics-urls', config.listenMetricsUrls],
  ] as const;
  const [flag, endpoints] =
    listening.find(([, given]) => given.some(({ url }) => new URL(url).port === `${port}`)) ??
    listening[0];
  const value = endpoints.map(({ url }) => url).join(',');
  return new CliError(
    `cannot use '${value}' as ${flag}: ${remedy} (${error.message})`,
    exitCodes.failed,
  );
}

/** What went wrong, for errors that are the operator's to mend and not a defect of the program. */
function startFailure(error: unknown, config: Config): unknown {
  const listening = error instanceof Error ? listenFailure(error, config) : undefined;
  if (listening !== undefined) return listening;
  const isKnown = error instanceof Error && 'code' in error && typeof error.code === 'string';
  return isKnown ? new CliError(error.message, exitCodes.failed) : error;
}

const stopSignals = ['SIGTERM', 'SIGINT'] as const;

/** Resolves at the first signal that asks to stop; the next one ends the process at once. */
const stopSignal = (): Promise<NodeJS.Signals> =>
  new Promise((resolve) => {
    const stop = (signal: NodeJS.Signals): void => {
      for (const name of stopSignals) process.removeListener(name, stop);
      resolve(signal);
    };
    for (const name of stopSignals) process.on(name, stop);
  });

function sayReady(config: Config, endpoints: readonly string[]): void {
  const message = 'ready to serve clients';
  const line =
    config.logFormat === 'json'
      ? JSON.stringify({ level: 30, time: Date.now(), name: 'conclave', endpoints, msg: message })
      : `conclave ${config.name}: ${message} on ${endpoints.join(', ')} (data in ${config.dataDirectory})`;
  process.stderr.write(`${line}\n`);
}

async function serve(flags: readonly string[]): Promise<void> {
  const stopped = stopSignal();
  const { config, warnings } = readConfig(flags);
  const logger = createLogger(config);
  for (const warning of warnings) logger.warn(warning);
  const starting = startMember(memberOptionsOrFail(config, logger));
  const member = await starting.catch((error: unknown) => {
    throw startFailure(error, config);
  });
  sayReady(config, member.endpoints);
  void keepCompiledCode();
  const expelled = member.expelled.then((reason) => ({ reason }));
  const end = await Promise.race([stopped, expelled]);
  logger.info(typeof end === 'string' ? { signal: end } : end, 'stopping');
  await member.close();
  if (typeof end !== 'string') throw new CliError(end.reason, exitCodes.failed);
}

function memberOptionsOrFail(config: Config, logger: Logger) {
  try {
    return memberOptions(config, logger);
  } catch (error) {
    throw startFailure(error, config);
  }
}

export function define(command: Command): void {
  addExamples(command, [
    ['conclave serve', 'for this machine, with the data in ./default.conclave'],
    [
      'conclave serve --data-dir /var/lib/conclave --listen-client-urls http://0.0.0.0:2379 --advertise-client-urls http://store.example:2379',
      'for other machines',
    ],
    ['CONCLAVE_DATA_DIR=/var/lib/conclave conclave serve', 'every flag is also a variable'],
  ])
    .helpOption('--help', 'show help')
    .allowUnknownOption()
    .argument('[flags...]', 'flags of etcd, see below')
    .usage('[flags]')
    .addHelpText(
      'after',
      `
Every flag can also be set by CONCLAVE_NAME_OF_FLAG or ETCD_NAME_OF_FLAG, but not by both.
History is compacted automatically by default, after one hour; the data lives in
NAME.conclave by default. TLS and authentication are not supported yet: their flags are
refused. Other flags of etcd that have no meaning here are accepted with a warning.
${describeFlags()}`,
    )
    .action(serve);
}
