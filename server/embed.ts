/**
 * Starts a member in this process: opens its storage, recovers, elects, listens.
 *
 * The order matters. Requests are accepted only when everything acknowledged before the last stop
 * is applied again; on the way down answers in flight leave first and storage closes last.
 */
import type { Logger } from 'pino';
import { AutoCompaction, type AutoCompactionPolicy } from './auto-compaction.ts';
import { systemClock, systemRandom, systemTimers } from './clock.ts';
import { Listener } from './http/listener.ts';
import { PrometheusMetrics } from './http/prometheus.ts';
import type { HttpHandler } from './http/router.ts';
import { limits } from './limits.ts';
import { LocalMember } from './local-member.ts';
import { abortProcess, defaultLogger } from './logging.ts';
import { Machine } from './machine.ts';
import { Node } from './node.ts';
import { NodeMetrics } from './node-metrics.ts';
import { singleMember } from './raft/configuration.ts';
import { Raft } from './raft/raft.ts';
import { Replica } from './replica.ts';
import { RpcServer } from './rpc/server.ts';
import { SpaceKeeper } from './space-keeper.ts';
import { openStores, type Stores } from './stores.ts';
import { Hub } from './watch/hub.ts';

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
  /** What other members are told; makes up the identity of a new cluster. */
  readonly peerUrls?: readonly string[];
  readonly clusterToken?: string;
  /** @default 100 */
  readonly heartbeatIntervalMs?: number;
  /** @default 1000 */
  readonly electionTimeoutMs?: number;
  /** Log entries that may go are released at the latest when they are so many. @default 10000 */
  readonly snapshotCount?: number;
  /** Bytes in use from which writes are refused; 0 for no limit. @default limits.quotaBytes */
  readonly quotaBytes?: number;
  /** @default periodic, one hour */
  readonly autoCompaction?: AutoCompactionPolicy;
  readonly maxTxnOps?: number;
  readonly maxRequestBytes?: number;
  readonly watchProgressNotifyIntervalMs?: number;
  /** Web origins that may use the port. @default none but its own */
  readonly origins?: readonly string[];
  /** Host names that HTTP requests may be addressed to, beside those it listens on. */
  readonly hosts?: readonly string[];
  /** @default warnings and worse, as JSON on stderr */
  readonly logger?: Logger;
  /** Metrics of the process as well, for one member of a process. @default false */
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
  /** Adds a handler to the client port, beside health and metrics. */
  mount(path: string, handler: HttpHandler): void;
  /** Lets answers in flight finish, then closes everything. Idempotent. */
  close(): Promise<void>;
}

const HOUR_MS = 3_600_000;
/** How long answers in flight and streams get when a member stops. */
const GRACE_MS = 5_000;
/** etcd's rule: requests may take this long, and two elections. */
const REQUEST_TIMEOUT_MS = 5_000;

/**
 * @throws {DataDirectoryError} when the directory cannot be used; `in-use` when another process has it
 * @throws {CorruptionError} when stored data is damaged
 */
export async function startMember(options: MemberOptions = {}): Promise<RunningMember> {
  const logger = options.logger ?? defaultLogger();
  const failure = new Failure(options.onFatal ?? abortProcess(logger));
  const stores = await openStores(options, (error) => failure.report(error));
  try {
    return await start(options, stores, logger, failure);
  } catch (error) {
    // What went wrong first is what matters; after a storage failure closing fails as well.
    await stores.close().catch(() => undefined);
    throw error;
  }
}

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

async function start(
  options: MemberOptions,
  stores: Stores,
  logger: Logger,
  failure: Failure,
): Promise<RunningMember> {
  const { state, log, identity } = stores;
  const heartbeatMs = options.heartbeatIntervalMs ?? 100;
  const electionTimeoutMs = options.electionTimeoutMs ?? 1_000;
  const maxTxnOps = options.maxTxnOps ?? limits.txnOps;
  const requestTimeoutMs = REQUEST_TIMEOUT_MS + 2 * electionTimeoutMs;

  const machine = new Machine({
    minLeaseTtlSeconds: Math.ceil((1.5 * electionTimeoutMs) / 1000),
    maxTxnOps,
  });
  machine.load(state, systemClock.nowMs());
  const raft = new Raft({
    id: identity.memberId,
    configuration: singleMember(identity.memberId),
    electionTicks: Math.ceil(electionTimeoutMs / heartbeatMs),
    heartbeatTicks: 1,
    preVote: true,
    checkQuorum: true,
    random: systemRandom,
    recovered: stores.takeRecovered(),
    appliedIndex: state.appliedIndex,
  });
  const replica = new Replica({ raft, machine, state, requestTimeoutMs, electionTimeoutMs });
  const hub = new Hub({
    source: {
      history: (from, bounds) => {
        try {
          return machine.history(state, from, bounds);
        } catch (error) {
          // Watchers would miss what is damaged without knowing it: better no member than that.
          failure.report(error instanceof Error ? error : new Error(String(error)));
          throw error;
        }
      },
      previous: (kv) => member.previous(kv),
    },
    revision: machine.revision,
    compactRevision: Math.max(0, machine.compactRevision),
  });
  let onServing = (): void => {};
  const serving = new Promise<void>((resolve) => {
    onServing = resolve;
  });
  const nodeMetrics = new NodeMetrics();
  const node = new Node({
    replica,
    log,
    state,
    clock: systemClock,
    timers: systemTimers,
    autoCompaction: new AutoCompaction(
      options.autoCompaction ?? { mode: 'periodic', retentionMs: HOUR_MS },
    ),
    tickMs: heartbeatMs,
    requestTimeoutMs,
    snapshotCount: options.snapshotCount ?? 10_000,
    catchUpEntries: raft.configuration.voters.length > 1 ? limits.catchUpEntries : 0,
    send: () => {},
    onPublished: ({ revision, events }) => hub.publish(revision, events),
    onCompacted: (revision) => hub.compacted(revision),
    onLeadership: () => {
      if (replica.isServingLeader) onServing();
    },
    observer: nodeMetrics,
    onTick: () => space.check(),
    onFatal: (error) => failure.report(error),
  });
  const member = new LocalMember({
    clusterId: identity.clusterId,
    memberId: identity.memberId,
    name: identity.name,
    electionTimeoutMs,
    quotaBytes: options.quotaBytes ?? limits.quotaBytes,
    node,
    replica,
    state,
    clock: systemClock,
    timers: systemTimers,
    hub,
    logger,
    snapshot: () => stores.snapshot(),
  });
  const space = new SpaceKeeper(member, logger);

  const listeners: Listener[] = [];
  try {
    node.start();
    raft.campaign();
    await Promise.race([serving, failure.happened]);
    listeners.push(...(await openListeners(options, member, node, nodeMetrics, logger)));
    await introduce(member, options, listeners[0]?.urls ?? []);
  } catch (error) {
    await Promise.all(listeners.map((listener) => listener.close(0)));
    await node.stop();
    throw error;
  }

  let closed: Promise<void> | undefined;
  const close = async (): Promise<void> => {
    member.beginStopping();
    await Promise.all(listeners.map((listener) => listener.close(GRACE_MS)));
    await node.stop();
    await stores.close();
  };
  return {
    endpoints: (listeners[0]?.urls ?? []).map((url) => url.replace(/^http:\/\//, '')),
    clusterId: identity.clusterId,
    memberId: identity.memberId,
    mount: (path, handler) => listeners[0]?.mount(path, handler),
    close: () => {
      closed ??= close();
      return closed;
    },
  };
}

/** The client port, and the port for metrics if there is to be one. */
async function openListeners(
  options: MemberOptions,
  member: LocalMember,
  node: Node,
  nodeMetrics: NodeMetrics,
  logger: Logger,
): Promise<readonly Listener[]> {
  const metrics = new PrometheusMetrics({
    member,
    processMetrics: options.processMetrics ?? false,
  });
  nodeMetrics.registerTo(metrics.registry, () => node.pendingProposals);
  const rpc = new RpcServer({
    member,
    random: systemRandom,
    logger,
    maxTxnOps: options.maxTxnOps ?? limits.txnOps,
    observer: metrics,
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

/** Tells the cluster this member's name and addresses, when they are not what it knows. */
async function introduce(
  member: LocalMember,
  options: MemberOptions,
  urls: readonly string[],
): Promise<void> {
  const description = {
    name: member.name,
    peerUrls: options.peerUrls ?? [],
    clientUrls: options.advertiseClientUrls ?? urls,
  };
  const known = member.members.find(({ id }) => id === member.memberId);
  const { name, peerUrls, clientUrls } = known ?? {};
  if (JSON.stringify({ name, peerUrls, clientUrls }) === JSON.stringify(description)) return;
  await member.propose({ kind: 'member', memberId: member.memberId, ...description });
}
