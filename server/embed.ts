/**
 * Starts a member in this process: finds out who it is, opens its storage, recovers, listens.
 *
 * The order matters. A member on its own accepts requests only when everything acknowledged before
 * the last stop is applied again; one of several cannot wait for the others and answers `no leader`
 * until a quorum has one. On the way down leadership goes first, then answers in flight leave, and
 * storage closes last.
 */
import type { Logger } from 'pino';
import { arrive } from './arrival.ts';
import { assemble, type Parts } from './assembly.ts';
import type { AutoCompactionPolicy } from './auto-compaction.ts';
import { systemClock, systemRandom, systemTimers } from './clock.ts';
import { Listener } from './http/listener.ts';
import { PrometheusMetrics } from './http/prometheus.ts';
import type { HttpHandler } from './http/router.ts';
import type { InitialMember } from './identity.ts';
import { limits } from './limits.ts';
import { abortProcess, defaultLogger } from './logging.ts';
import { type CarrierName, RpcServer } from './rpc/server.ts';
import { readIdentity, recordRemoval } from './storage/identity.ts';
import { openStores, type Stores } from './stores.ts';
import { fetchMembers } from './transport/join.ts';
import { PeerListener } from './transport/peer-listener.ts';
import { PeerTransport } from './transport/peer-transport.ts';

export type MemberOptions = {
  /** Where the data lives. Without it everything is in memory and gone at the end, for tests. */
  readonly directory?: string;
  /** @default 'default' */
  readonly name?: string;
  /** `http://host:port`, port 0 for a free one, or `unix:/path`. @default one free port of 127.0.0.1 */
  readonly listenClientUrls?: readonly string[];
  /** What clients are told. @default where it listens */
  readonly advertiseClientUrls?: readonly string[];
  /** Another port with health, version and metrics on it. @default none */
  readonly listenMetricsUrls?: readonly string[];
  /** What other members are told. @default none */
  readonly peerUrls?: readonly string[];
  /** Where to listen for other members. @default nowhere: then no member can be added */
  readonly listenPeerUrls?: readonly string[];
  /**
   * The members of the cluster, this one among them: those that found it, or those to ask when it is
   * `existing`. @default this one alone
   */
  readonly initialCluster?: readonly InitialMember[];
  /** `existing`: joins a cluster to which this member was added. @default 'new' */
  readonly initialClusterState?: 'new' | 'existing';
  readonly clusterToken?: string;
  /** Refuses membership changes after which too few started members would be left. @default true */
  readonly strictReconfigCheck?: boolean;
  /** @default 100 */
  readonly heartbeatIntervalMs?: number;
  /** @default 1000 */
  readonly electionTimeoutMs?: number;
  /** Log entries that may go are released at the latest when they are so many. @default 10000 */
  readonly snapshotCount?: number;
  /**
   * Log entries kept for members that are behind; one that is further behind gets a copy of the
   * store. @default limits.catchUpEntries
   */
  readonly catchUpEntries?: number;
  /** Bytes in use from which writes are refused; 0 for no limit. @default limits.quotaBytes */
  readonly quotaBytes?: number;
  /** @default periodic, one hour */
  readonly autoCompaction?: AutoCompactionPolicy;
  readonly maxTxnOps?: number;
  readonly maxRequestBytes?: number;
  readonly watchProgressNotifyIntervalMs?: number;
  /** What serves gRPC to clients: the own HTTP/2 server, or the grpc-js library. @default 'lean' */
  readonly grpcServer?: CarrierName;
  /** Web origins that may use the port. @default none but its own */
  readonly origins?: readonly string[];
  /** Host names that HTTP requests may be addressed to, beside those it listens on. */
  readonly hosts?: readonly string[];
  /** @default warnings and worse, as JSON on stderr */
  readonly logger?: Logger;
  /** Metrics of the process as well, from the first scrape on, for one member of a process. @default false */
  readonly processMetrics?: boolean;
  /**
   * Called once when storage fails or an invariant breaks. Nothing is acknowledged from then on, and
   * the process must end without closing the storage. @default logs why and aborts the process
   */
  readonly onFatal?: (error: Error) => void;
};

export interface RunningMember {
  /** Where clients reach it: `host:port` and `unix:/path`. */
  readonly endpoints: readonly string[];
  readonly clusterId: bigint;
  readonly memberId: bigint;
  /**
   * Resolves, with the reason, when the cluster goes on without this member for good: it was removed,
   * or has lost its data. It can do nothing more and should be closed.
   */
  readonly expelled: Promise<string>;
  /** Adds a handler to the client port, beside health and metrics. */
  mount(path: string, handler: HttpHandler): void;
  /** Hands leadership over, lets answers in flight finish, then closes everything. Idempotent. */
  close(): Promise<void>;
}

/** How long answers in flight and streams get when a member stops. */
const GRACE_MS = 5_000;
/** etcd's rule: requests may take this long, and two elections. */
const REQUEST_TIMEOUT_MS = 5_000;

/**
 * @throws {ArrivalError} when the cluster has no place for the member as it is started
 * @throws {DataDirectoryError} when the directory cannot be used; `in-use` when another process has it
 * @throws {CorruptionError} when stored data is damaged
 */
export async function startMember(options: MemberOptions = {}): Promise<RunningMember> {
  const logger = options.logger ?? defaultLogger();
  const failure = new Failure(options.onFatal ?? abortProcess(logger));
  const { name = 'default', directory, listenPeerUrls = [] } = options;
  // The port is open first: members that start together find each other, not a refusal.
  const peerListener = await PeerListener.open(listenPeerUrls);
  try {
    const existing = directory === undefined ? undefined : await readIdentity(directory);
    const arrival = await arrive({
      existing,
      name,
      clusterToken: options.clusterToken ?? 'etcd-cluster',
      initialCluster: options.initialCluster ?? [{ name, peerUrls: options.peerUrls ?? [] }],
      initialClusterState: options.initialClusterState ?? 'new',
      ask: (url, { timeoutMs }) => fetchMembers(url, AbortSignal.timeout(timeoutMs)),
      clock: systemClock,
      timers: systemTimers,
      patienceMs: requestTimeoutMs(options),
    });
    const stores = await openStores(directory, arrival.identity, (error) => failure.report(error));
    try {
      const expulsion = new Expulsion(logger);
      const parts = await assemble({
        options,
        arrival,
        stores,
        logger,
        requestTimeoutMs: requestTimeoutMs(options),
        onFatal: (error) => failure.report(error),
        onExpelled: (reason, isRemoved) => {
          const recorded =
            isRemoved && directory !== undefined
              ? recordRemoval(directory, stores.identity, reason)
              : Promise.resolve();
          recorded
            // Then the other members have to say it again at the next start.
            .catch((error: unknown) => logger.warn({ err: error }, 'cannot record the removal'))
            .finally(() => expulsion.happen(reason));
        },
      });
      return await start(options, { ...parts, stores, peerListener, logger, failure, expulsion });
    } catch (error) {
      // What went wrong first is what matters; after a storage failure closing fails as well.
      await stores.close().catch(() => undefined);
      throw error;
    }
  } catch (error) {
    await peerListener.close();
    throw error;
  }
}

const requestTimeoutMs = ({ electionTimeoutMs = 1_000 }: MemberOptions): number =>
  REQUEST_TIMEOUT_MS + 2 * electionTimeoutMs;

/** The end of a member, told once, whether its storage or its loop finds out first. */
class Failure {
  /** Rejects when the member cannot go on. */
  readonly happened: Promise<never>;
  readonly #onFatal: (error: Error) => void;
  #reject: (error: Error) => void = () => undefined;
  #isReported = false;

  constructor(onFatal: (error: Error) => void) {
    this.#onFatal = onFatal;
    this.happened = new Promise((_, reject) => {
      this.#reject = reject;
    });
    this.happened.catch(() => undefined);
  }

  report(error: Error): void {
    if (this.#isReported) return;
    this.#isReported = true;
    this.#reject(error);
    this.#onFatal(error);
  }
}

class Expulsion {
  readonly happened: Promise<string>;
  readonly #logger: Logger;
  #resolve: (reason: string) => void = () => undefined;

  constructor(logger: Logger) {
    this.#logger = logger;
    this.happened = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  happen(reason: string): void {
    this.#logger.error({ reason }, 'the cluster goes on without this member, which must stop');
    this.#resolve(reason);
  }
}

type Starting = Parts & {
  readonly stores: Stores;
  readonly peerListener: PeerListener;
  readonly logger: Logger;
  readonly failure: Failure;
  readonly expulsion: Expulsion;
};

async function start(options: MemberOptions, starting: Starting): Promise<RunningMember> {
  const { node, member, peering, introduction, isAlone, stores, peerListener } = starting;
  const { identity } = stores;
  const listeners: Listener[] = [];
  const stop = async (graceMs: number): Promise<void> => {
    await Promise.all(listeners.map((listener) => listener.close(graceMs)));
    await peering.close();
    await node.stop();
  };
  try {
    node.start();
    peering.begin(openTransport(options, starting));
    starting.campaign();
    if (isAlone) await Promise.race([starting.serving, starting.failure.happened]);
    listeners.push(...(await openListeners(options, starting)));
    const introduced = introduction.begin({
      incarnation: identity.incarnation,
      clientUrls: options.advertiseClientUrls ?? listeners[0]?.urls ?? [],
      peerUrls: options.peerUrls ?? [],
    });
    if (isAlone) await introduced;
  } catch (error) {
    await stop(0);
    throw error;
  }

  let closed: Promise<void> | undefined;
  const close = async (): Promise<void> => {
    member.beginStopping();
    await member.handOver();
    await stop(GRACE_MS);
    await stores.close();
    await peerListener.close();
  };
  return {
    endpoints: (listeners[0]?.urls ?? []).map((url) => url.replace(/^http:\/\//, '')),
    clusterId: identity.clusterId,
    memberId: identity.memberId,
    expelled: starting.expulsion.happened,
    mount: (path, handler) => listeners[0]?.mount(path, handler),
    close: () => {
      closed ??= close();
      return closed;
    },
  };
}

function openTransport(
  options: MemberOptions,
  { stores, peerListener, peering, peerBook, nodeMetrics, logger }: Starting,
): PeerTransport {
  return new PeerTransport({
    identity: stores.identity,
    urls: options.peerUrls ?? peerListener.urls,
    ...(peerListener.urls.length === 0 ? {} : { listener: peerListener }),
    electionTimeoutMs: options.electionTimeoutMs ?? 1_000,
    peerBook,
    handlers: peering,
    clock: systemClock,
    timers: systemTimers,
    random: systemRandom,
    logger,
    trafficOf: nodeMetrics.trafficOf,
  });
}

/** The client port, and the port for metrics if there is to be one. */
async function openListeners(
  options: MemberOptions,
  { member, node, nodeMetrics, logger }: Starting,
): Promise<readonly Listener[]> {
  const metrics = new PrometheusMetrics({
    member,
    measures: nodeMetrics.measures(() => node.pendingProposals),
    processMetrics: options.processMetrics ?? false,
  });
  const rpc = await RpcServer.open({
    member,
    random: systemRandom,
    logger,
    maxTxnOps: options.maxTxnOps ?? limits.txnOps,
    observer: metrics,
    ...(options.grpcServer === undefined ? {} : { carrier: options.grpcServer }),
    ...(options.maxRequestBytes === undefined ? {} : { maxRequestBytes: options.maxRequestBytes }),
    ...(options.watchProgressNotifyIntervalMs === undefined
      ? {}
      : { progressIntervalMs: options.watchProgressNotifyIntervalMs }),
  });
  const common = {
    member,
    rpc,
    metrics,
    logger,
    hosts: options.hosts ?? [],
    origins: options.origins ?? [],
  };
  const clients = await Listener.open({
    ...common,
    urls: options.listenClientUrls ?? ['http://127.0.0.1:0'],
  });
  try {
    return [clients, await Listener.open({ ...common, urls: options.listenMetricsUrls ?? [] })];
  } catch (error) {
    await clients.close(0);
    throw error;
  }
}
