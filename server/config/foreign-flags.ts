/**
 * etcd's flags that mean nothing here. Those whose absence changes nothing a user could rely on are
 * accepted with a warning, so that manifests written for etcd start. Those that would make the
 * server less safe than the user believes are refused.
 */

const noMeaning = 'it has no meaning here';

const withValue: Readonly<Record<string, string>> = {
  'wal-dir': 'the log lives in --data-dir',
  'listen-client-http-urls': 'HTTP and gRPC share --listen-client-urls',
  'max-wals': 'log files go as soon as they are not needed',
  'max-snapshots': noMeaning,
  'backend-bbolt-freelist-type': noMeaning,
  'backend-batch-interval': noMeaning,
  'backend-batch-limit': noMeaning,
  'max-concurrent-streams': noMeaning,
  'grpc-keepalive-min-time': noMeaning,
  'grpc-keepalive-interval': noMeaning,
  'grpc-keepalive-timeout': noMeaning,
  'raft-read-timeout': noMeaning,
  'raft-write-timeout': noMeaning,
  'feature-gates': noMeaning,
  'self-signed-cert-validity': noMeaning,
  'bootstrap-defrag-threshold-megabytes': 'space is reclaimed while the server runs',
  'max-learners': 'a cluster has one learner at a time',
  'experimental-max-learners': 'a cluster has one learner at a time',
  'compaction-sleep-interval': 'compaction paces itself',
  'compaction-batch-limit': 'compaction paces itself',
  'downgrade-check-time': noMeaning,
  'corrupt-check-time': noMeaning,
  'compact-hash-check-time': noMeaning,
  'warning-apply-duration': noMeaning,
  'warning-unary-request-duration': noMeaning,
  'log-package-levels': 'use --log-level',
  'log-rotation-config-json': 'rotate log files from outside',
  metrics: 'all metrics are always served',
  'distributed-tracing-address': noMeaning,
  'distributed-tracing-service-name': noMeaning,
  'distributed-tracing-instance-id': noMeaning,
  'distributed-tracing-sampling-rate': noMeaning,
  'discovery-dial-timeout': noMeaning,
  'discovery-request-timeout': noMeaning,
  'discovery-keepalive-time': noMeaning,
  'discovery-keepalive-timeout': noMeaning,
  'discovery-fallback': noMeaning,
  'proxy-dial-timeout': noMeaning,
  'proxy-failure-wait': noMeaning,
  'proxy-read-timeout': noMeaning,
  'proxy-refresh-interval': noMeaning,
  'proxy-write-timeout': noMeaning,
  'v2-deprecation': noMeaning,
  'experimental-bootstrap-defrag-threshold-megabytes': noMeaning,
  'experimental-backend-bbolt-freelist-type': noMeaning,
  'experimental-compact-hash-check-time': noMeaning,
  'experimental-compaction-batch-limit': noMeaning,
  'experimental-compaction-sleep-interval': noMeaning,
  'experimental-corrupt-check-time': noMeaning,
  'experimental-distributed-tracing-address': noMeaning,
  'experimental-distributed-tracing-instance-id': noMeaning,
  'experimental-distributed-tracing-sampling-rate': noMeaning,
  'experimental-distributed-tracing-service-name': noMeaning,
  'experimental-downgrade-check-time': noMeaning,
  'experimental-enable-v2v3': noMeaning,
  'experimental-warning-apply-duration': noMeaning,
  'experimental-warning-unary-request-duration': noMeaning,
  'cluster-active-size': noMeaning,
  'cluster-remove-delay': noMeaning,
  'cluster-sync-interval': noMeaning,
  config: noMeaning,
  'max-result-buffer': noMeaning,
  'max-retry-attempts': noMeaning,
  'peer-heartbeat-interval': noMeaning,
  'peer-election-timeout': noMeaning,
  'retry-interval': noMeaning,
};

const withoutValue: Readonly<Record<string, string>> = {
  'memory-mlock': noMeaning,
  'initial-election-tick-advance': noMeaning,
  'socket-reuse-port': noMeaning,
  'socket-reuse-address': noMeaning,
  'enable-grpc-gateway': 'the JSON gateway is always on',
  'pre-vote': 'it is always on',
  'enable-pprof': noMeaning,
  debug: 'use --log-level=debug',
  'enable-log-rotation': 'rotate log files from outside',
  'enable-distributed-tracing': noMeaning,
  'unsafe-no-fsync': 'writes are always flushed',
  'enable-v2': 'only version 3 of the protocol is served',
  'experimental-compact-hash-check-enabled': noMeaning,
  'experimental-enable-distributed-tracing': noMeaning,
  'experimental-enable-lease-checkpoint': noMeaning,
  'experimental-enable-lease-checkpoint-persist': noMeaning,
  'experimental-initial-corrupt-check': 'the log and the store check themselves',
  'experimental-memory-mlock': noMeaning,
  'experimental-stop-grpc-service-on-defrag': noMeaning,
  'experimental-txn-mode-write-with-shared-buffer': noMeaning,
  force: noMeaning,
  snapshot: noMeaning,
  v: noMeaning,
  vv: noMeaning,
  'discovery-insecure-transport': noMeaning,
  'discovery-insecure-skip-tls-verify': noMeaning,
};

const tls = 'TLS is not supported yet, and going on without it would be unsafe';
const auth = 'authentication is not supported yet, and going on without it would be unsafe';
const discovery = 'discovery is not supported: list the members in --initial-cluster';

type Refused = {
  readonly takesValue: boolean;
  readonly reason: string;
  /** Values that ask for nothing: the flag is then ignored in silence. */
  readonly harmless: readonly string[];
};

const refusedText = (names: string, reason: string, harmless: readonly string[] = ['']) =>
  names.split(' ').map((name) => [name, { takesValue: true, reason, harmless }] as const);
const refusedSwitch = (names: string, reason: string) =>
  names
    .split(' ')
    .map((name) => [name, { takesValue: false, reason, harmless: ['false'] }] as const);

export const refusedFlags: ReadonlyMap<string, Refused> = new Map<string, Refused>([
  ...refusedText(
    'cert-file key-file client-cert-file client-key-file client-crl-file trusted-ca-file ca-file client-cert-allowed-hostname peer-cert-file peer-key-file peer-client-cert-file peer-client-key-file peer-trusted-ca-file peer-ca-file peer-cert-allowed-cn peer-cert-allowed-hostname peer-crl-file cipher-suites tls-max-version',
    tls,
  ),
  ...refusedText('tls-min-version', tls, ['', 'TLS1.2']),
  ...refusedSwitch(
    'client-cert-auth auto-tls peer-client-cert-auth peer-auto-tls peer-skip-client-san-verification experimental-peer-skip-client-san-verification',
    tls,
  ),
  ...refusedText('auth-token', auth, ['', 'simple']),
  ...refusedText('bcrypt-cost', auth, ['', '10']),
  ...refusedText('auth-token-ttl', auth, ['', '300']),
  ...refusedText(
    'discovery discovery-token discovery-endpoints discovery-cert discovery-key discovery-cacert discovery-user discovery-password discovery-proxy discovery-srv discovery-srv-name',
    discovery,
  ),
  ...refusedText('proxy', 'there is no proxy mode', ['', 'off']),
  ...refusedSwitch('force-new-cluster', 'it is not supported yet'),
]);

/** The blocks of etcd's configuration file that turn TLS on. */
export const refusedBlocks: Readonly<Record<string, string>> = {
  'client-transport-security': tls,
  'peer-transport-security': tls,
};

export type Foreign = {
  readonly takesValue: boolean;
  /** Why it can be ignored; absent for a refused one. */
  readonly ignored?: string;
};

/** What is known of a flag of etcd's that means nothing here; undefined: not one of etcd's. */
export function foreignFlag(name: string): Foreign | undefined {
  const refused = refusedFlags.get(name);
  if (refused !== undefined) return { takesValue: refused.takesValue };
  const valued = withValue[name];
  if (valued !== undefined) return { takesValue: true, ignored: valued };
  const bare = withoutValue[name];
  return bare === undefined ? undefined : { takesValue: false, ignored: bare };
}
