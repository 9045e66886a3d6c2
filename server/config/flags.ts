/** The flags that mean something here, in the order of the help. */

export type FlagSection = 'Member' | 'Cluster' | 'Store' | 'HTTP' | 'Logging';

export type Flag = {
  readonly name: string;
  /** What the help shows for the value. */
  readonly value: string;
  /** The default as the user would write it. */
  readonly fallback: string;
  readonly help: string;
  readonly section: FlagSection;
  /** It may stand without a value and then means true. */
  readonly isSwitch?: true;
};

export const flags = [
  {
    name: 'name',
    value: 'NAME',
    fallback: 'default',
    help: 'human-readable name of this member',
    section: 'Member',
  },
  {
    name: 'data-dir',
    value: 'DIR',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: shown to the user in etcd's notation
    fallback: '${name}.conclave',
    help: 'directory of the log and the store',
    section: 'Member',
  },
  {
    name: 'listen-client-urls',
    value: 'URLS',
    fallback: 'http://localhost:2379',
    help: 'where to listen for clients, with commas between; port 0 lets the system choose',
    section: 'Member',
  },
  {
    name: 'listen-peer-urls',
    value: 'URLS',
    fallback: 'http://localhost:2380',
    help: 'where to listen for other members; one that is alone listens only if this is given',
    section: 'Member',
  },
  {
    name: 'listen-metrics-urls',
    value: 'URLS',
    fallback: '',
    help: 'more addresses that serve /metrics, /health, /livez and /readyz',
    section: 'Member',
  },
  {
    name: 'heartbeat-interval',
    value: 'MS',
    fallback: '100',
    help: 'time between heartbeats of the leader, in milliseconds',
    section: 'Member',
  },
  {
    name: 'election-timeout',
    value: 'MS',
    fallback: '1000',
    help: 'silence of the leader before an election, in milliseconds; at least 5 heartbeats',
    section: 'Member',
  },
  {
    name: 'config-file',
    value: 'FILE',
    fallback: '',
    help: 'read every setting from this JSON file; other flags and variables are then ignored',
    section: 'Member',
  },
  {
    name: 'advertise-client-urls',
    value: 'URLS',
    fallback: 'http://localhost:2379',
    help: 'where clients reach this member; required with --listen-client-urls',
    section: 'Cluster',
  },
  {
    name: 'initial-advertise-peer-urls',
    value: 'URLS',
    fallback: 'http://localhost:2380',
    help: 'where other members reach this member; must match --initial-cluster',
    section: 'Cluster',
  },
  {
    name: 'initial-cluster',
    value: 'MEMBERS',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: shown to the user in etcd's notation
    fallback: '${name}=${initial-advertise-peer-urls}',
    help: "the members as 'name=url,name=url'; once this member has data, what the cluster knows counts",
    section: 'Cluster',
  },
  {
    name: 'initial-cluster-state',
    value: 'new|existing',
    fallback: 'new',
    help: "start a cluster, or join one to which 'conclave member add' has added this member",
    section: 'Cluster',
  },
  {
    name: 'initial-cluster-token',
    value: 'TOKEN',
    fallback: 'etcd-cluster',
    help: 'tells clusters apart that start with the same members',
    section: 'Cluster',
  },
  {
    name: 'strict-reconfig-check',
    value: 'true|false',
    fallback: 'true',
    help: 'refuse membership changes after which too few started members would be left',
    section: 'Cluster',
    isSwitch: true,
  },
  {
    name: 'snapshot-count',
    value: 'N',
    fallback: '10000',
    help: 'log entries to apply before old ones may go',
    section: 'Store',
  },
  {
    name: 'snapshot-catchup-entries',
    value: 'N',
    fallback: '5000',
    help: 'log entries to keep for members that are behind; further ones get a copy of the store',
    section: 'Store',
  },
  {
    name: 'quota-backend-bytes',
    value: 'BYTES',
    fallback: '0',
    help: 'bytes in use from which writes are refused; 0 means 2 GiB, negative means no quota',
    section: 'Store',
  },
  {
    name: 'auto-compaction-mode',
    value: 'periodic|revision',
    fallback: 'periodic',
    help: 'count --auto-compaction-retention in time or in revisions',
    section: 'Store',
  },
  {
    name: 'auto-compaction-retention',
    value: 'TIME|N',
    fallback: '1h',
    help: "history to keep: '90m' or hours as a number (periodic), revisions (revision); 0 turns compaction off. On by default, unlike etcd",
    section: 'Store',
  },
  {
    name: 'max-txn-ops',
    value: 'N',
    fallback: '128',
    help: 'operations in a transaction',
    section: 'Store',
  },
  {
    name: 'max-request-bytes',
    value: 'BYTES',
    fallback: '1572864',
    help: 'size of a write',
    section: 'Store',
  },
  {
    name: 'watch-progress-notify-interval',
    value: 'TIME',
    fallback: '10m',
    help: 'time between progress notices of an idle watch that asked for them',
    section: 'Store',
  },
  {
    name: 'grpc-server',
    value: 'lean|grpc-js',
    fallback: 'lean',
    help: "what serves clients: the server's own HTTP/2, or the grpc-js library, which is slower",
    section: 'HTTP',
  },
  {
    name: 'cors',
    value: 'ORIGINS',
    fallback: '',
    help: "web origins that may use this server from a browser, or '*'; none by default, unlike etcd, where every web page can write",
    section: 'HTTP',
  },
  {
    name: 'host-whitelist',
    value: 'HOSTS',
    fallback: '*',
    help: 'host names that HTTP requests may be addressed to',
    section: 'HTTP',
  },
  {
    name: 'logger',
    value: 'zap|pino',
    fallback: 'zap',
    help: 'accepted for compatibility: both mean structured logs',
    section: 'Logging',
  },
  {
    name: 'log-level',
    value: 'LEVEL',
    fallback: 'info',
    help: 'debug, info, warn, error or fatal',
    section: 'Logging',
  },
  {
    name: 'log-format',
    value: 'json|console',
    fallback: 'console',
    help: 'json: every line on stderr is a JSON document; console: the line that says the server is ready is plain text',
    section: 'Logging',
  },
  {
    name: 'log-outputs',
    value: 'OUTPUTS',
    fallback: 'default',
    help: "'default' (stderr), 'stderr', 'stdout' or files, with commas between",
    section: 'Logging',
  },
] as const satisfies readonly Flag[];

export type FlagName = (typeof flags)[number]['name'];

/** etcd's older names for flags that mean something here. */
export const aliases: Readonly<Record<string, FlagName>> = {
  'experimental-snapshot-catch-up-entries': 'snapshot-catchup-entries',
  'experimental-snapshot-catchup-entries': 'snapshot-catchup-entries',
  'experimental-watch-progress-notify-interval': 'watch-progress-notify-interval',
};

export const switches: ReadonlySet<FlagName> = new Set(
  flags.filter((flag) => 'isSwitch' in flag).map((flag) => flag.name),
);

/** The flags and their defaults, as the help shows them. */
export function describeFlags(): string {
  const lines: string[] = [];
  let section: FlagSection | undefined;
  for (const flag of flags) {
    if (flag.section !== section) {
      section = flag.section;
      lines.push('', `${section}:`);
    }
    const fallback = flag.fallback === '' ? '' : ` (default ${flag.fallback})`;
    lines.push(`  --${flag.name} ${flag.value}`, `      ${flag.help}${fallback}`);
  }
  return lines.join('\n');
}
