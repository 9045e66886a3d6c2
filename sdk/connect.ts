/** Opening a client. */
import type { Client, ConnectOptions, RetryOptions, TlsOptions } from './client.ts';
import { type Clock, systemClock } from './clock.ts';
import { Connection, type ConnectionOptions } from './connection.ts';
import { parseEndpoints } from './endpoints.ts';
import { invalidArgument, isConclaveError } from './errors.ts';
import { overGrpc } from './grpc-opener.ts';
import type { ThreadConnection } from './keep-alive-protocol.ts';
import { refuseUnknownOptions } from './known-options.ts';
import { parseDuration } from './options.ts';
import { systemRandom } from './random.ts';
import { parseRetry } from './retry.ts';
import { clientOver } from './store-client.ts';
import type { OpenTransport } from './transport.ts';

/** What a client stands on. Programs leave this to `connect`; simulations and tests bring their own. */
export type Foundation = {
  /** In place of gRPC. Then `transport` and `tls` have no meaning. */
  readonly openTransport?: OpenTransport;
  /** For connections and calls; sessions, watches and recipes stay on `clock`. @default `clock` */
  readonly connectionClock?: Clock;
};

/**
 * Opens a client.
 *
 * - `connect()` or `connect({ directory })`: a durable store in a directory (`./.conclave`), hosted
 *   by whichever process of this machine came first and shared by all that open the same directory.
 * - `connect('host1:2379,host2:2379')` or a list: a cluster, of conclave or of etcd.
 *
 * @throws ConclaveError INVALID_ARGUMENT, UNREACHABLE when no endpoint accepts within
 *   `connectTimeout`, and DATA_DIRECTORY_IN_USE when that is because a program owns the directory
 *   that serves it elsewhere
 */
export const connect = (
  target: string | readonly string[] | ConnectOptions = {},
): Promise<Client> => connectOver({}, target);

/** Opens a client on a foundation of one's own. For the rest as `connect`. */
export const connectOver = async (
  foundation: Foundation,
  target: string | readonly string[] | ConnectOptions = {},
): Promise<Client> => {
  const options = optionsOf(target);
  const clock = options.clock ?? systemClock;
  const connectionClock = foundation.connectionClock ?? clock;
  const connectTimeoutMs = parseDuration(options.connectTimeout ?? '10s', 'connectTimeout');
  const common = {
    retry: parseRetry(options.retry),
    requestTimeoutMs: parseDuration(options.requestTimeout ?? '10s', 'requestTimeout'),
    clock: connectionClock,
    random: options.random ?? systemRandom,
    logger: options.logger,
  };
  const { openTransport = overGrpc(options, connectionClock) } = foundation;
  const store = await locate(options);
  let connection: Connection | undefined;
  try {
    connection = new Connection({ ...common, ...store.connection, openTransport });
    await connection.link(connectTimeoutMs, options.signal);
  } catch (error) {
    connection?.close();
    await store.release();
    if (
      isConclaveError(error, 'UNREACHABLE') &&
      isConclaveError(error.cause, 'DATA_DIRECTORY_IN_USE')
    ) {
      throw error.cause;
    }
    throw error;
  }
  return clientOver({
    connection,
    clock,
    namespace: options.namespace ?? '',
    release: store.release,
    thread: threadConnection(foundation, options, connection),
  });
};

/** A thread has the system's clock and network, and no others. */
const threadConnection = (
  foundation: Foundation,
  { clock = systemClock, transport, tls }: ConnectOptions,
  { endpoints, requestTimeoutMs, retry }: Connection,
): ThreadConnection | undefined => {
  if (foundation.openTransport !== undefined || clock !== systemClock) return undefined;
  return {
    endpoints,
    requestTimeoutMs,
    retry,
    ...(transport === undefined ? {} : { transport }),
    ...(tls === undefined ? {} : { tls }),
  };
};

type Located = {
  readonly connection: Pick<ConnectionOptions, 'endpoints' | 'provide'>;
  readonly release: () => Promise<void>;
};

const locate = async (options: ConnectOptions): Promise<Located> => {
  if (options.endpoints !== undefined) {
    if (options.directory !== undefined) {
      throw invalidArgument('directory', options.directory, 'absent when endpoints are given');
    }
    const endpoints = parseEndpoints(options.endpoints);
    return { connection: { endpoints }, release: async () => {} };
  }
  // A program that only talks to servers never loads the embedded store.
  const { openEmbedded } = await import('./embedded.ts');
  const store = await openEmbedded(options.directory ?? '.conclave');
  return {
    connection: { endpoints: parseEndpoints([store.endpoint]), provide: () => store.provide() },
    release: () => store.release(),
  };
};

/** What `connect` takes, for who takes more. */
export const knownOptions: Readonly<Record<keyof ConnectOptions, true>> = {
  endpoints: true,
  directory: true,
  namespace: true,
  connectTimeout: true,
  requestTimeout: true,
  retry: true,
  transport: true,
  tls: true,
  signal: true,
  logger: true,
  clock: true,
  random: true,
};

const knownRetry: Readonly<Record<keyof RetryOptions, true>> = {
  retries: true,
  minDelay: true,
  maxDelay: true,
};

const knownTls: Readonly<Record<keyof TlsOptions, true>> = { ca: true, cert: true, key: true };

const optionsOf = (target: string | readonly string[] | ConnectOptions): ConnectOptions => {
  if (typeof target === 'string' || isList(target)) return { endpoints: target };
  if (typeof target !== 'object' || target === null) {
    throw invalidArgument('target', target, 'endpoints or an object of options');
  }
  refuseUnknownOptions(target, knownOptions);
  if (target.retry !== undefined) refuseUnknownOptions(target.retry, knownRetry, 'retry.');
  if (target.tls !== undefined) refuseUnknownOptions(target.tls, knownTls, 'tls.');
  return target;
};

const isList = (target: readonly string[] | ConnectOptions): target is readonly string[] =>
  Array.isArray(target);
