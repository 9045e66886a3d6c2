/** What the loop of a member measures, under etcd's names. */
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { NodeObserver } from './node.ts';

/** 1 ms to 8 s, doubling: etcd's buckets for the disk. */
const DISK_BUCKETS = Array.from({ length: 14 }, (_, power) => 0.001 * 2 ** power);

export class NodeMetrics implements NodeObserver {
  readonly #stored = new Histogram({
    name: 'etcd_disk_wal_fsync_duration_seconds',
    help: 'Time to make a batch of log entries durable.',
    buckets: DISK_BUCKETS,
    registers: [],
  });
  readonly #failed = new Counter({
    name: 'etcd_server_proposals_failed_total',
    help: 'Proposals that were refused or timed out.',
    registers: [],
  });
  readonly #leaderChanges = new Counter({
    name: 'etcd_server_leader_changes_seen_total',
    help: 'Times that this member saw the leader or its term change.',
    registers: [],
  });

  stored(durationMs: number): void {
    this.#stored.observe(durationMs / 1000);
  }

  proposalFailed(): void {
    this.#failed.inc();
  }

  leadershipChanged(): void {
    this.#leaderChanges.inc();
  }

  registerTo(registry: Registry, pendingProposals: () => number): void {
    registry.registerMetric(this.#stored);
    registry.registerMetric(this.#failed);
    registry.registerMetric(this.#leaderChanges);
    registry.registerMetric(
      new Gauge({
        name: 'etcd_server_proposals_pending',
        help: 'Proposals that wait for their entry to be applied.',
        registers: [],
        collect() {
          this.set(pendingProposals());
        },
      }),
    );
  }
}
