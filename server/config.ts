/**
 * The settings of a member: flags, `CONCLAVE_*` and `ETCD_*` variables, or one file, in etcd's
 * vocabulary, checked against each other and then never changed.
 */
import type { AutoCompactionPolicy } from './auto-compaction.ts';
import { ConfigError, type Origin, refuse } from './config/config-error.ts';
import { type FlagName, flags } from './config/flags.ts';
import { gather, type Setting, type Settings, type Surroundings } from './config/sources.ts';
import {
  advertisedEndpoints,
  boolean,
  choice,
  duration,
  type Endpoint,
  goDurationMs,
  type InitialMember,
  initialCluster,
  integer,
  list,
  listenEndpoints,
  type Reader,
  text,
} from './config/values.ts';
import { limits } from './limits.ts';

export { ConfigError } from './config/config-error.ts';
export { describeFlags } from './config/flags.ts';
export type { Endpoint, InitialMember } from './config/values.ts';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'fatal';

export type Config = {
  readonly name: string;
  readonly dataDirectory: string;
  readonly listenClientUrls: readonly Endpoint[];
  readonly advertiseClientUrls: readonly Endpoint[];
  /** Empty for a member on its own that was not told to listen for others. */
  readonly listenPeerUrls: readonly Endpoint[];
  readonly initialAdvertisePeerUrls: readonly Endpoint[];
  readonly listenMetricsUrls: readonly Endpoint[];
  /** The first members, this one among them. */
  readonly initialCluster: readonly InitialMember[];
  readonly initialClusterState: 'new' | 'existing';
  readonly initialClusterToken: string;
  /** Refuse membership changes after which too few started members would be left. */
  readonly strictReconfigCheck: boolean;
  readonly heartbeatIntervalMs: number;
  readonly electionTimeoutMs: number;
  /** Log entries to apply before old ones may go. */
  readonly snapshotCount: number;
  /** Log entries kept behind the newest applied one for members that are behind. */
  readonly catchUpEntries: number;
  /** Bytes in use from which writes are refused; `Number.MAX_SAFE_INTEGER` for none. */
  readonly quotaBytes: number;
  readonly autoCompaction: AutoCompactionPolicy;
  readonly maxTxnOps: number;
  readonly maxRequestBytes: number;
  readonly watchProgressNotifyIntervalMs: number;
  /** What serves gRPC to clients. */
  readonly grpcServer: 'lean' | 'grpc-js';
  /** Web origins that may use the server besides its own; '*' for all. */
  readonly cors: readonly string[];
  /** Host names that HTTP requests may be addressed to; '*' for all. */
  readonly hostWhitelist: readonly string[];
  readonly logLevel: LogLevel;
  readonly logFormat: 'json' | 'console';
  /** 'stderr', 'stdout' or paths of files. */
  readonly logOutputs: readonly string[];
};

export type LoadedConfig = {
  readonly config: Config;
  /** One line each: settings of etcd's that were accepted and mean nothing here, and the like. */
  readonly warnings: readonly string[];
};

const LONGEST_ELECTION_TIMEOUT_MS = 50_000;
const HEARTBEATS_PER_ELECTION = 5;

const fallbacks: ReadonlyMap<FlagName, string> = new Map(
  flags.map((flag) => [flag.name, flag.fallback]),
);

class Values {
  readonly #settings: Settings['values'];

  constructor(settings: Settings['values']) {
    this.#settings = settings;
  }

  /** What the user wrote; undefined when it is left to the default. */
  written(name: FlagName): Setting | undefined {
    return this.#settings.get(name);
  }

  setting(name: FlagName): Setting {
    return (
      this.#settings.get(name) ?? {
        text: fallbacks.get(name) ?? '',
        origin: { setting: name, writtenAs: `--${name}` },
      }
    );
  }

  read<T>(name: FlagName, reader: Reader<T>): T {
    const { text: value, origin } = this.setting(name);
    return reader(value, origin);
  }
}

function autoCompaction(values: Values): AutoCompactionPolicy {
  const mode = values.read('auto-compaction-mode', choice('periodic', 'revision'));
  const { text: value, origin } = values.setting('auto-compaction-retention');
  if (/^0+$/.test(value)) return { mode: 'off' };
  if (mode === 'revision') {
    if (values.written('auto-compaction-retention') === undefined) {
      throw new ConfigError(
        'auto-compaction-retention',
        '--auto-compaction-mode=revision needs --auto-compaction-retention: how many revisions to keep',
      );
    }
    return { mode, keep: integer(0, Number.MAX_SAFE_INTEGER)(value, origin) };
  }
  const hours = /^\d+$/.test(value) ? integer(1, 876_000)(value, origin) : undefined;
  const retentionMs = hours === undefined ? goDurationMs(value) : hours * 3_600_000;
  if (retentionMs === 0) return { mode: 'off' };
  if (
    retentionMs === undefined ||
    retentionMs < 1_000 ||
    !Number.isSafeInteger(Math.ceil(retentionMs))
  ) {
    throw refuse(origin, value, "a duration of at least a second ('90m'), hours as a number, or 0");
  }
  return { mode, retentionMs: Math.ceil(retentionMs) };
}

function timing(values: Values): { heartbeatIntervalMs: number; electionTimeoutMs: number } {
  const heartbeatIntervalMs = values.read('heartbeat-interval', integer(1, 10_000));
  const electionTimeoutMs = values.read(
    'election-timeout',
    integer(1, LONGEST_ELECTION_TIMEOUT_MS),
  );
  if (electionTimeoutMs < HEARTBEATS_PER_ELECTION * heartbeatIntervalMs) {
    throw refuse(
      values.setting('election-timeout').origin,
      String(electionTimeoutMs),
      `at least ${HEARTBEATS_PER_ELECTION} times --heartbeat-interval (${heartbeatIntervalMs})`,
    );
  }
  return { heartbeatIntervalMs, electionTimeoutMs };
}

const urlsOf = (endpoints: readonly Endpoint[]): string =>
  endpoints
    .map((endpoint) => endpoint.url)
    .sort()
    .join(',');

/** Members of a cluster are to fail apart from each other, so they are not on one machine. */
function refuseSockets(endpoints: readonly Endpoint[], origin: Origin): void {
  const socket = endpoints.find(({ kind }) => kind === 'unix');
  if (socket !== undefined) throw refuse(origin, socket.url, "URLs such as 'http://10.0.0.1:2380'");
}

function cluster(
  values: Values,
  name: string,
): Pick<Config, 'listenPeerUrls' | 'initialAdvertisePeerUrls' | 'initialCluster'> {
  const listenPeerUrls = values.read('listen-peer-urls', listenEndpoints({ empty: false }));
  const initialAdvertisePeerUrls = values.read('initial-advertise-peer-urls', advertisedEndpoints);
  refuseSockets(listenPeerUrls, values.setting('listen-peer-urls').origin);
  refuseSockets(initialAdvertisePeerUrls, values.setting('initial-advertise-peer-urls').origin);
  if (values.written('initial-cluster') === undefined) {
    return {
      // A member on its own needs no second port, unless others are to join it.
      listenPeerUrls: values.written('listen-peer-urls') === undefined ? [] : listenPeerUrls,
      initialAdvertisePeerUrls,
      initialCluster: [{ name, peerUrls: initialAdvertisePeerUrls }],
    };
  }
  const members = values.read('initial-cluster', initialCluster);
  const { text: value, origin } = values.setting('initial-cluster');
  const self = members.find((member) => member.name === name);
  if (self === undefined) {
    throw refuse(origin, value, `a list with this member, --name ${JSON.stringify(name)}, in it`);
  }
  if (urlsOf(self.peerUrls) !== urlsOf(initialAdvertisePeerUrls)) {
    throw refuse(
      origin,
      value,
      `the same as --initial-advertise-peer-urls for '${name}': ${urlsOf(initialAdvertisePeerUrls)}`,
    );
  }
  const seen = new Map<string, string>();
  for (const member of members) {
    for (const { url } of member.peerUrls) {
      const other = seen.get(url);
      if (other !== undefined) {
        throw refuse(origin, value, `a list in which every URL occurs once (${url} occurs again)`);
      }
      seen.set(url, member.name);
    }
  }
  return { listenPeerUrls, initialAdvertisePeerUrls, initialCluster: members };
}

function logging(values: Values): Pick<Config, 'logLevel' | 'logFormat' | 'logOutputs'> {
  values.read('logger', choice('zap', 'pino', 'capnslog'));
  const level = values.read(
    'log-level',
    choice('debug', 'info', 'warn', 'error', 'fatal', 'dpanic', 'panic'),
  );
  const { text: value, origin } = values.setting('log-outputs');
  const outputs = list(value, origin).map((output) => {
    if (output === 'default') return 'stderr';
    if (output.startsWith('systemd/')) {
      throw refuse(origin, output, "'default', 'stderr' (systemd collects it), 'stdout' or a file");
    }
    return output;
  });
  if (outputs.length === 0) throw refuse(origin, value, "'default', 'stderr', 'stdout' or files");
  return {
    logLevel: level === 'dpanic' || level === 'panic' ? 'fatal' : level,
    logFormat: values.read('log-format', choice('json', 'console')),
    logOutputs: [...new Set(outputs)],
  };
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    Object.values(value).forEach(deepFreeze);
    Object.freeze(value);
  }
  return value;
}

/**
 * Reads and checks all settings. Touches nothing but the configuration file.
 *
 * @throws ConfigError with one line that names the setting, what was given and what is allowed
 */
export function loadConfig(surroundings: Surroundings): LoadedConfig {
  const { values: settings, warnings } = gather(surroundings);
  const values = new Values(settings);

  const name = values.read('name', text({ empty: false }));
  const listen = values.written('listen-client-urls');
  if (listen !== undefined && values.written('advertise-client-urls') === undefined) {
    throw new ConfigError(
      'advertise-client-urls',
      '--advertise-client-urls is required when --listen-client-urls is set explicitly',
    );
  }
  const quota = values.read(
    'quota-backend-bytes',
    integer(Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER),
  );
  const config: Config = {
    name,
    dataDirectory:
      values.written('data-dir') === undefined
        ? `${name}.conclave`
        : values.read('data-dir', text({ empty: false })),
    listenClientUrls: values.read('listen-client-urls', listenEndpoints({ empty: false })),
    advertiseClientUrls: values.read('advertise-client-urls', advertisedEndpoints),
    listenMetricsUrls: values.read('listen-metrics-urls', listenEndpoints({ empty: true })),
    ...cluster(values, name),
    initialClusterState: values.read('initial-cluster-state', choice('new', 'existing')),
    initialClusterToken: values.read('initial-cluster-token', text({ empty: true })),
    strictReconfigCheck: values.read('strict-reconfig-check', boolean),
    ...timing(values),
    catchUpEntries: values.read('snapshot-catchup-entries', integer(1, 1_000_000)),
    snapshotCount: values.read('snapshot-count', integer(1, 1_000_000_000)),
    quotaBytes: quota === 0 ? limits.quotaBytes : quota < 0 ? Number.MAX_SAFE_INTEGER : quota,
    autoCompaction: autoCompaction(values),
    maxTxnOps: values.read('max-txn-ops', integer(1, 1_000_000)),
    // Two requests must fit into one batch of the log.
    maxRequestBytes: values.read('max-request-bytes', integer(1, limits.walBatchBytes / 2)),
    grpcServer: values.read('grpc-server', choice('lean', 'grpc-js')),
    watchProgressNotifyIntervalMs: values.read(
      'watch-progress-notify-interval',
      duration({ allowZero: false }),
    ),
    cors: values.read('cors', list),
    hostWhitelist: values.read('host-whitelist', list),
    ...logging(values),
  };
  return { config: deepFreeze(config), warnings };
}
