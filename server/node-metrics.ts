/** What the loop of a member measures, under etcd's names. */
import { Counter, Gauge, Histogram, type Metric, type Registry } from 'prom-client';
import { idToHex } from './ids.ts';
import type { NodeObserver } from './node.ts';
import type { PeeringObserver } from './peering.ts';
import type { PeerTraffic, TrafficOf } from './transport/traffic.ts';

/** 1 ms to 8 s, doubling: etcd's buckets for the disk. */
const DISK_BUCKETS = Array.from({ length: 14 }, (_, power) => 0.001 * 2 ** power);

/** 0.1 ms to 3.2 s, doubling: etcd's buckets for a round trip. */
const ROUND_TRIP_BUCKETS = Array.from({ length: 16 }, (_, power) => 0.0001 * 2 ** power);

/** 0.1 s to 51 s, doubling: etcd's buckets for a whole state. */
const INSTALL_BUCKETS = Array.from({ length: 10 }, (_, power) => 0.1 * 2 ** power);

export class NodeMetrics implements NodeObserver, PeeringObserver {
  readonly #stored = new Histogram({
    name: 'etcd_disk_wal_fsync_duration_seconds',
    help: 'Time to make a batch of log entries durable.',
    buckets: DISK_BUCKETS,
    registers: [],
  });
  readonly #installed = new Histogram({
    name: 'etcd_snap_db_save_total_duration_seconds',
    help: "Time to put another member's state in the place of the own one.",
    buckets: INSTALL_BUCKETS,
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

  readonly #snapshotsSent = new Counter({
    name: 'etcd_network_snapshot_send_success',
    help: 'Copies of the state that arrived at another member.',
    labelNames: ['To'],
    registers: [],
  });
  readonly #snapshotsFailed = new Counter({
    name: 'etcd_network_snapshot_send_failures',
    help: 'Copies of the state that did not arrive.',
    labelNames: ['To'],
    registers: [],
  });
  readonly #snapshotsUnderWay = new Gauge({
    name: 'etcd_network_snapshot_send_inflights_total',
    help: 'Copies of the state on their way to another member.',
    labelNames: ['To'],
    registers: [],
  });
  readonly #activePeers = new Gauge({
    name: 'etcd_network_active_peers',
    help: 'Whether another member is reachable: 1 or 0.',
    labelNames: ['Local', 'Remote'],
    registers: [],
  });
  readonly #disconnections = new Counter({
    name: 'etcd_network_disconnected_peers_total',
    help: 'Times that the connection to another member broke.',
    labelNames: ['Local', 'Remote'],
    registers: [],
  });
  readonly #snapshotsReceived = new Counter({
    name: 'etcd_network_snapshot_receive_success',
    help: 'Copies of the state that came in whole.',
    labelNames: ['From'],
    registers: [],
  });

  readonly #roundTrip = new Histogram({
    name: 'etcd_network_peer_round_trip_time_seconds',
    help: 'Time to another member and back, asked once a tick.',
    labelNames: ['To'],
    buckets: ROUND_TRIP_BUCKETS,
    registers: [],
  });
  readonly #traffic = new Map<bigint, PeerTraffic>();

  readonly trafficOf: TrafficOf = (member) => {
    const known = this.#traffic.get(member);
    if (known !== undefined) return known;
    const labels = { To: idToHex(member) };
    const traffic: PeerTraffic = {
      sentBytes: 0,
      receivedBytes: 0,
      sentFailures: 0,
      roundTrip: (durationMs) => this.#roundTrip.observe(labels, durationMs / 1000),
    };
    this.#traffic.set(member, traffic);
    return traffic;
  };

  stored(durationMs: number): void {
    this.#stored.observe(durationMs / 1000);
  }

  installed(durationMs: number): void {
    this.#installed.observe(durationMs / 1000);
  }

  connectionChanged(local: bigint, remote: bigint, isReachable: boolean): void {
    const labels = { Local: idToHex(local), Remote: idToHex(remote) };
    this.#activePeers.set(labels, isReachable ? 1 : 0);
    if (!isReachable) this.#disconnections.inc(labels);
  }

  snapshotSendStarted(to: bigint): (outcome: 'sent' | 'failed') => void {
    const labels = { To: idToHex(to) };
    this.#snapshotsUnderWay.inc(labels);
    return (outcome) => {
      this.#snapshotsUnderWay.dec(labels);
      (outcome === 'sent' ? this.#snapshotsSent : this.#snapshotsFailed).inc(labels);
    };
  }

  snapshotReceived(from: bigint, sizeBytes: number): void {
    this.trafficOf(from).receivedBytes += sizeBytes;
    this.#snapshotsReceived.inc({ From: idToHex(from) });
  }

  proposalFailed(): void {
    this.#failed.inc();
  }

  leadershipChanged(): void {
    this.#leaderChanges.inc();
  }

  registerTo(registry: Registry, pendingProposals: () => number): void {
    const own: readonly Metric[] = [
      this.#stored,
      this.#installed,
      this.#failed,
      this.#leaderChanges,
      this.#activePeers,
      this.#disconnections,
      this.#snapshotsSent,
      this.#snapshotsFailed,
      this.#snapshotsUnderWay,
      this.#snapshotsReceived,
      this.#roundTrip,
      this.#perPeer('etcd_network_peer_sent_bytes_total', 'To', ({ sentBytes }) => sentBytes, {
        help: 'Bytes of messages and copies of the state sent to another member.',
      }),
      this.#perPeer(
        'etcd_network_peer_received_bytes_total',
        'From',
        ({ receivedBytes }) => receivedBytes,
        { help: 'Bytes of messages and copies of the state that came from another member.' },
      ),
      this.#perPeer(
        'etcd_network_peer_sent_failures_total',
        'To',
        ({ sentFailures }) => sentFailures,
        { help: 'Messages to another member that were dropped before they were sent.' },
      ),
    ];
    for (const metric of own) registry.registerMetric(metric);
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

  /** Handed over when somebody scrapes. */
  #perPeer(
    name: string,
    label: 'To' | 'From',
    count: (traffic: PeerTraffic) => number,
    { help }: { readonly help: string },
  ): Counter {
    const peers = this.#traffic;
    return new Counter({
      name,
      help,
      labelNames: [label],
      registers: [],
      collect() {
        this.reset();
        for (const [id, traffic] of peers) this.inc({ [label]: idToHex(id) }, count(traffic));
      },
    });
  }
}
