/**
 * Prometheus metrics under etcd's names where the meaning is etcd's, so that its dashboards work.
 *
 * Everything is plain numbers that are handed over when somebody scrapes: a call costs two additions,
 * and the library is loaded at the first scrape, not while a member starts.
 */
import { idToHex } from '../ids.ts';
import { type Labels, type Measure, single, Tally } from '../measures.ts';
import type { Member } from '../rpc/member.ts';
import type { CallKind, CallType, RpcObserver } from '../rpc/observer.ts';
import { ETCD_CLUSTER_VERSION, ETCD_VERSION } from '../rpc/version.ts';
import type { Exposition } from './exposition.ts';
import type { Exposed, Metrics } from './metrics.ts';

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

class CallCounts implements CallKind {
  readonly labels: Labels;
  /** By gRPC code. */
  readonly handled: number[] = [];
  begun = 0;

  constructor(labels: Labels) {
    this.labels = labels;
  }

  started(): void {
    this.begun += 1;
  }

  ended(code: number): void {
    this.handled[code] = (this.handled[code] ?? 0) + 1;
  }
}

export type PrometheusOptions = {
  readonly member: Member;
  /** What others measure. @default nothing */
  readonly measures?: readonly Measure[];
  /** Event loop, garbage collector and memory of the process: for one server of a process. @default true */
  readonly processMetrics?: boolean;
};

export class PrometheusMetrics implements Metrics, RpcObserver {
  readonly #options: PrometheusOptions;
  readonly #calls: CallCounts[] = [];
  readonly #checks = new Tally('type', 'name', 'status');
  readonly #check = new Tally('type', 'name');
  readonly #healthSuccess = new Tally();
  readonly #healthFailures = new Tally();
  #exposition: Promise<Exposition> | undefined;

  constructor(options: PrometheusOptions) {
    this.#options = options;
  }

  async expose(): Promise<Exposed> {
    this.#exposition ??= this.#open().catch((error: unknown) => {
      // The next scrape tries again.
      this.#exposition = undefined;
      throw error;
    });
    return await (await this.#exposition).expose();
  }

  async #open(): Promise<Exposition> {
    const { member, measures = [], processMetrics = true } = this.#options;
    const { Exposition } = await import('./exposition.ts');
    return new Exposition({
      measures: [
        ...this.#ofChecks(),
        ...this.#ofCalls(),
        ...ofMember(member),
        ...ofWatches(member),
        ...measures,
      ],
      processMetrics,
    });
  }

  healthChecked(type: string, name: string, passed: boolean): void {
    if (type === 'health') (passed ? this.#healthSuccess : this.#healthFailures).add();
    else {
      this.#checks.add({ type, name, status: passed ? 'success' : 'error' });
      this.#check.set({ type, name }, passed ? 1 : 0);
    }
  }

  method(path: string, type: CallType): CallKind {
    const [, service = '', method = ''] = path.split('/');
    const labels = { grpc_service: service, grpc_method: method, grpc_type: type };
    const counts = new CallCounts(labels);
    this.#calls.push(counts);
    return counts;
  }

  #ofChecks(): readonly Measure[] {
    return [
      {
        type: 'counter',
        name: 'etcd_server_healthchecks_total',
        help: 'Outcomes of health checks.',
        labelNames: this.#checks.labelNames,
        read: () => this.#checks,
      },
      {
        type: 'gauge',
        name: 'etcd_server_healthcheck',
        help: 'The last outcome of each health check: 1 passed, 0 failed.',
        labelNames: this.#check.labelNames,
        read: () => this.#check,
      },
      {
        type: 'counter',
        name: 'etcd_server_health_success',
        help: 'Times that /health said yes.',
        read: () => this.#healthSuccess,
      },
      {
        type: 'counter',
        name: 'etcd_server_health_failures',
        help: 'Times that /health said no.',
        read: () => this.#healthFailures,
      },
    ];
  }

  #ofCalls(): readonly Measure[] {
    const labelNames = ['grpc_service', 'grpc_method', 'grpc_type'];
    return [
      {
        type: 'counter',
        name: 'grpc_server_started_total',
        help: 'Calls begun on the server.',
        labelNames,
        read: () => this.#calls.map(({ labels, begun }) => [labels, begun]),
      },
      {
        type: 'counter',
        name: 'grpc_server_handled_total',
        help: 'Calls ended on the server, by gRPC code.',
        labelNames: [...labelNames, 'grpc_code'],
        read: () => this.#handled(),
      },
    ];
  }

  *#handled(): Generator<readonly [Labels, number]> {
    for (const { labels, handled } of this.#calls) {
      for (const [code, count] of handled.entries()) {
        if (count === undefined) continue;
        yield [{ ...labels, grpc_code: codeNames[code] ?? String(code) }, count];
      }
    }
  }
}

const gauge = (name: string, help: string, read: () => number): Measure => ({
  type: 'gauge',
  name,
  help,
  read: () => single(read()),
});

/** A fact that is a label. */
const labelled = (name: string, help: string, label: string, value: string): Measure => ({
  type: 'gauge',
  name,
  help,
  labelNames: [label],
  read: () => [[{ [label]: value }, 1]],
});

function ofMember(member: Member): readonly Measure[] {
  return [
    gauge('etcd_server_has_leader', 'Whether a leader is known: 1 or 0.', () =>
      member.leader === 0n ? 0 : 1,
    ),
    gauge('etcd_server_is_leader', 'Whether this member leads: 1 or 0.', () =>
      member.isLeader ? 1 : 0,
    ),
    gauge('etcd_server_is_learner', 'Whether this member is a learner: 1 or 0.', () =>
      member.isLearner ? 1 : 0,
    ),
    gauge(
      'etcd_server_snapshot_apply_in_progress_total',
      "Whether another member's state is taking the place of the own one: 1 or 0.",
      () => (member.isInstalling ? 1 : 0),
    ),
    gauge(
      'etcd_server_proposals_committed_total',
      'Index of the newest committed entry.',
      () => member.commitIndex,
    ),
    gauge(
      'etcd_server_proposals_applied_total',
      'Index of the newest applied entry.',
      () => member.appliedIndex,
    ),
    gauge(
      'etcd_server_quota_backend_bytes',
      'Bytes the data may take before writes are refused; 0 means no limit.',
      () => member.space.quotaBytes,
    ),
    gauge(
      'etcd_mvcc_db_total_size_in_bytes',
      'Bytes of the database on disk.',
      () => member.space.sizeBytes,
    ),
    gauge(
      'etcd_mvcc_db_total_size_in_use_in_bytes',
      'Bytes of the database that hold live data.',
      () => member.space.usedBytes,
    ),
    gauge('etcd_debugging_mvcc_current_revision', 'The newest revision.', () => member.revision),
    gauge(
      'etcd_debugging_mvcc_compact_revision',
      'The revision of the last compaction, 0 before the first.',
      () => Math.max(0, member.compactRevision),
    ),
    labelled(
      'etcd_server_id',
      'The id of this member, as label.',
      'server_id',
      idToHex(member.memberId),
    ),
    labelled(
      'etcd_server_version',
      'The etcd protocol level, as label.',
      'server_version',
      ETCD_VERSION,
    ),
    labelled(
      'etcd_cluster_version',
      'The etcd protocol level of the cluster, as label.',
      'cluster_version',
      ETCD_CLUSTER_VERSION,
    ),
  ];
}

function ofWatches({ hub }: Member): readonly Measure[] {
  return [
    gauge(
      'etcd_debugging_mvcc_watch_stream_total',
      'Open watch streams.',
      () => hub.counts.streams,
    ),
    gauge('etcd_debugging_mvcc_watcher_total', 'Watchers.', () => hub.counts.watchers),
    gauge(
      'etcd_debugging_mvcc_slow_watcher_total',
      'Watchers that are behind and read history.',
      () => hub.counts.behind,
    ),
    gauge(
      'conclave_watch_ring_bytes',
      'Bytes of recent events kept in memory for watchers.',
      () => hub.counts.ringBytes,
    ),
  ];
}
