/**
 * Prometheus metrics under etcd's names where the meaning is etcd's, so that its dashboards work.
 *
 * One registry a server, because one process may run several. Counters of calls are plain numbers that
 * are handed over when somebody scrapes: a call costs two additions.
 */
import { performance } from 'node:perf_hooks';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { idToHex } from '../ids.ts';
import type { Member } from '../rpc/member.ts';
import type { CallKind, CallType, RpcObserver } from '../rpc/observer.ts';
import { ETCD_CLUSTER_VERSION, ETCD_VERSION } from '../rpc/version.ts';
import type { Metrics } from './metrics.ts';

/** gRPC codes by number, as go-grpc-prometheus names them. */
const codeNames: readonly string[] = [
  'OK',
  'Canceled',
  'Unknown',
  'InvalidArgument',
  'DeadlineExceeded',
  'NotFound',
  'AlreadyExists',
  'PermissionDenied',
  'ResourceExhausted',
  'FailedPrecondition',
  'Aborted',
  'OutOfRange',
  'Unimplemented',
  'Internal',
  'Unavailable',
  'DataLoss',
  'Unauthenticated',
];

/** 0.0001 s to 52 s, doubling: etcd's buckets of apply and range. */
const DURATION_BUCKETS = Array.from({ length: 20 }, (_, power) => 0.0001 * 2 ** power);

type CallCounts = {
  readonly service: string;
  readonly method: string;
  readonly type: CallType;
  started: number;
  readonly handled: number[];
};

export type PrometheusOptions = {
  readonly member: Member;
  /** Histograms of the time calls take, a few microseconds each. Flag: --metrics=extensive. */
  readonly extensive?: boolean;
  /** Event loop, garbage collector and memory of the process: for one server of a process. @default true */
  readonly processMetrics?: boolean;
};

export class PrometheusMetrics implements Metrics, RpcObserver {
  readonly registry = new Registry();
  readonly #calls: CallCounts[] = [];
  readonly #seconds: Histogram<'grpc_service' | 'grpc_method' | 'grpc_type'> | undefined;
  readonly #checks: Counter<'type' | 'name' | 'status'>;
  readonly #check: Gauge<'type' | 'name'>;
  readonly #healthSuccess: Counter;
  readonly #healthFailures: Counter;

  constructor({ member, extensive = false, processMetrics = true }: PrometheusOptions) {
    const registers = [this.registry];
    if (processMetrics) collectDefaultMetrics({ register: this.registry });
    this.#seconds = extensive
      ? new Histogram({
          name: 'grpc_server_handling_seconds',
          help: 'Time from the start of a call to its status.',
          labelNames: ['grpc_service', 'grpc_method', 'grpc_type'],
          buckets: DURATION_BUCKETS,
          registers,
        })
      : undefined;
    this.#checks = new Counter({
      name: 'etcd_server_healthchecks_total',
      help: 'Outcomes of health checks.',
      labelNames: ['type', 'name', 'status'],
      registers,
    });
    this.#check = new Gauge({
      name: 'etcd_server_healthcheck',
      help: 'The last outcome of each health check: 1 passed, 0 failed.',
      labelNames: ['type', 'name'],
      registers,
    });
    this.#healthSuccess = new Counter({
      name: 'etcd_server_health_success',
      help: 'Times that /health said yes.',
      registers,
    });
    this.#healthFailures = new Counter({
      name: 'etcd_server_health_failures',
      help: 'Times that /health said no.',
      registers,
    });
    this.#registerCalls();
    registerMember(this.registry, member);
    registerWatches(this.registry, member);
  }

  get contentType(): string {
    return this.registry.contentType;
  }

  expose(): Promise<string> {
    return this.registry.metrics();
  }

  healthChecked(type: string, name: string, passed: boolean): void {
    if (type === 'health') (passed ? this.#healthSuccess : this.#healthFailures).inc();
    else {
      this.#checks.inc({ type, name, status: passed ? 'success' : 'error' });
      this.#check.set({ type, name }, passed ? 1 : 0);
    }
  }

  method(path: string, type: CallType): CallKind {
    const [, service = '', method = ''] = path.split('/');
    const counts: CallCounts = { service, method, type, started: 0, handled: [] };
    this.#calls.push(counts);
    const seconds = this.#seconds;
    const labels = { grpc_service: service, grpc_method: method, grpc_type: type };
    return {
      started() {
        counts.started += 1;
        const startMs = seconds === undefined ? 0 : performance.now();
        let isOpen = true;
        return (code) => {
          if (!isOpen) return;
          isOpen = false;
          counts.handled[code] = (counts.handled[code] ?? 0) + 1;
          seconds?.observe(labels, (performance.now() - startMs) / 1000);
        };
      },
    };
  }

  #registerCalls(): void {
    const calls = this.#calls;
    const registers = [this.registry];
    new Counter({
      name: 'grpc_server_started_total',
      help: 'Calls begun on the server.',
      labelNames: ['grpc_service', 'grpc_method', 'grpc_type'],
      registers,
      collect() {
        this.reset();
        for (const { service, method, type, started } of calls) {
          this.inc({ grpc_service: service, grpc_method: method, grpc_type: type }, started);
        }
      },
    });
    new Counter({
      name: 'grpc_server_handled_total',
      help: 'Calls ended on the server, by gRPC code.',
      labelNames: ['grpc_service', 'grpc_method', 'grpc_type', 'grpc_code'],
      registers,
      collect() {
        this.reset();
        for (const { service, method, type, handled } of calls) {
          handled.forEach((count, code) => {
            const grpc_code = codeNames[code] ?? String(code);
            const labels = { grpc_service: service, grpc_method: method, grpc_type: type };
            this.inc({ ...labels, grpc_code }, count);
          });
        }
      },
    });
  }
}

/** Facts that are read when somebody scrapes. */
function registerMember(registry: Registry, member: Member): void {
  const gauge = (name: string, help: string, read: () => number) =>
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        this.set(read());
      },
    });
  gauge('etcd_server_has_leader', 'Whether a leader is known: 1 or 0.', () =>
    member.leader === 0n ? 0 : 1,
  );
  gauge('etcd_server_is_leader', 'Whether this member leads: 1 or 0.', () =>
    member.isLeader ? 1 : 0,
  );
  gauge('etcd_server_is_learner', 'Whether this member is a learner: 1 or 0.', () =>
    member.isLearner ? 1 : 0,
  );
  gauge(
    'etcd_server_snapshot_apply_in_progress_total',
    "Whether another member's state is taking the place of the own one: 1 or 0.",
    () => (member.isInstalling ? 1 : 0),
  );
  gauge(
    'etcd_server_proposals_committed_total',
    'Index of the newest committed entry.',
    () => member.commitIndex,
  );
  gauge(
    'etcd_server_proposals_applied_total',
    'Index of the newest applied entry.',
    () => member.appliedIndex,
  );
  gauge(
    'etcd_server_quota_backend_bytes',
    'Bytes the data may take before writes are refused; 0 means no limit.',
    () => member.space.quotaBytes,
  );
  gauge(
    'etcd_mvcc_db_total_size_in_bytes',
    'Bytes of the database on disk.',
    () => member.space.sizeBytes,
  );
  gauge(
    'etcd_mvcc_db_total_size_in_use_in_bytes',
    'Bytes of the database that hold live data.',
    () => member.space.usedBytes,
  );
  gauge('etcd_debugging_mvcc_current_revision', 'The newest revision.', () => member.revision);
  gauge(
    'etcd_debugging_mvcc_compact_revision',
    'The revision of the last compaction, 0 before the first.',
    () => Math.max(0, member.compactRevision),
  );
  new Gauge({
    name: 'etcd_server_id',
    help: 'The id of this member, as label.',
    labelNames: ['server_id'],
    registers: [registry],
  }).set({ server_id: idToHex(member.memberId) }, 1);
  new Gauge({
    name: 'etcd_server_version',
    help: 'The etcd protocol level, as label.',
    labelNames: ['server_version'],
    registers: [registry],
  }).set({ server_version: ETCD_VERSION }, 1);
  new Gauge({
    name: 'etcd_cluster_version',
    help: 'The etcd protocol level of the cluster, as label.',
    labelNames: ['cluster_version'],
    registers: [registry],
  }).set({ cluster_version: ETCD_CLUSTER_VERSION }, 1);
}

function registerWatches(registry: Registry, { hub }: Member): void {
  const gauge = (name: string, help: string, read: () => number) =>
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        this.set(read());
      },
    });
  gauge('etcd_debugging_mvcc_watch_stream_total', 'Open watch streams.', () => hub.counts.streams);
  gauge('etcd_debugging_mvcc_watcher_total', 'Watchers.', () => hub.counts.watchers);
  gauge(
    'etcd_debugging_mvcc_slow_watcher_total',
    'Watchers that are behind and read history.',
    () => hub.counts.behind,
  );
  gauge(
    'conclave_watch_ring_bytes',
    'Bytes of recent events kept in memory for watchers.',
    () => hub.counts.ringBytes,
  );
}
