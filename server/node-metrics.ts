/** What the loop of a member measures, under etcd's names. */
import { idToHex } from './ids.ts';
import { Distribution, type Measure, single, Tally } from './measures.ts';
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
  readonly #stored = new Distribution(DISK_BUCKETS);
  readonly #installed = new Distribution(INSTALL_BUCKETS);
  readonly #roundTrip = new Distribution(ROUND_TRIP_BUCKETS, 'To');
  readonly #failed = new Tally();
  readonly #leaderChanges = new Tally();
  readonly #snapshotsSent = new Tally('To');
  readonly #snapshotsFailed = new Tally('To');
  readonly #snapshotsUnderWay = new Tally('To');
  readonly #snapshotsReceived = new Tally('From');
  readonly #activePeers = new Tally('Local', 'Remote');
  readonly #disconnections = new Tally('Local', 'Remote');
  readonly #traffic = new Map<bigint, PeerTraffic>();

  readonly trafficOf: TrafficOf = (member) => {
    const known = this.#traffic.get(member);
    if (known !== undefined) return known;
    const labels = { To: idToHex(member) };
    const traffic: PeerTraffic = {
      sentBytes: 0,
      receivedBytes: 0,
      sentFailures: 0,
      roundTrip: (durationMs) => this.#roundTrip.observe(durationMs / 1000, labels),
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
    if (!isReachable) this.#disconnections.add(labels);
  }

  snapshotSendStarted(to: bigint): (outcome: 'sent' | 'failed') => void {
    const labels = { To: idToHex(to) };
    this.#snapshotsUnderWay.add(labels);
    return (outcome) => {
      this.#snapshotsUnderWay.add(labels, -1);
      (outcome === 'sent' ? this.#snapshotsSent : this.#snapshotsFailed).add(labels);
    };
  }

  snapshotReceived(from: bigint, sizeBytes: number): void {
    this.trafficOf(from).receivedBytes += sizeBytes;
    this.#snapshotsReceived.add({ From: idToHex(from) });
  }

  proposalFailed(): void {
    this.#failed.add();
  }

  leadershipChanged(): void {
    this.#leaderChanges.add();
  }

  measures(pendingProposals: () => number): readonly Measure[] {
    return [
      {
        type: 'histogram',
        name: 'etcd_disk_wal_fsync_duration_seconds',
        help: 'Time to make a batch of log entries durable.',
        distribution: this.#stored,
      },
      {
        type: 'histogram',
        name: 'etcd_snap_db_save_total_duration_seconds',
        help: "Time to put another member's state in the place of the own one.",
        distribution: this.#installed,
      },
      {
        type: 'histogram',
        name: 'etcd_network_peer_round_trip_time_seconds',
        help: 'Time to another member and back, asked once a tick.',
        distribution: this.#roundTrip,
      },
      counter(this.#failed, {
        name: 'etcd_server_proposals_failed_total',
        help: 'Proposals that were refused or timed out.',
      }),
      counter(this.#leaderChanges, {
        name: 'etcd_server_leader_changes_seen_total',
        help: 'Times that this member saw the leader or its term change.',
      }),
      gauge(this.#activePeers, {
        name: 'etcd_network_active_peers',
        help: 'Whether another member is reachable: 1 or 0.',
      }),
      counter(this.#disconnections, {
        name: 'etcd_network_disconnected_peers_total',
        help: 'Times that the connection to another member broke.',
      }),
      counter(this.#snapshotsSent, {
        name: 'etcd_network_snapshot_send_success',
        help: 'Copies of the state that arrived at another member.',
      }),
      counter(this.#snapshotsFailed, {
        name: 'etcd_network_snapshot_send_failures',
        help: 'Copies of the state that did not arrive.',
      }),
      gauge(this.#snapshotsUnderWay, {
        name: 'etcd_network_snapshot_send_inflights_total',
        help: 'Copies of the state on their way to another member.',
      }),
      counter(this.#snapshotsReceived, {
        name: 'etcd_network_snapshot_receive_success',
        help: 'Copies of the state that came in whole.',
      }),
      this.#perPeer('To', ({ sentBytes }) => sentBytes, {
        name: 'etcd_network_peer_sent_bytes_total',
        help: 'Bytes of messages and copies of the state sent to another member.',
      }),
      this.#perPeer('From', ({ receivedBytes }) => receivedBytes, {
        name: 'etcd_network_peer_received_bytes_total',
        help: 'Bytes of messages and copies of the state that came from another member.',
      }),
      this.#perPeer('To', ({ sentFailures }) => sentFailures, {
        name: 'etcd_network_peer_sent_failures_total',
        help: 'Messages to another member that were dropped before they were sent.',
      }),
      {
        type: 'gauge',
        name: 'etcd_server_proposals_pending',
        help: 'Proposals that wait for their entry to be applied.',
        read: () => single(pendingProposals()),
      },
    ];
  }

  #perPeer(label: 'To' | 'From', count: (traffic: PeerTraffic) => number, text: Text): Measure {
    const read = () =>
      [...this.#traffic].map(
        ([id, traffic]) => [{ [label]: idToHex(id) }, count(traffic)] as const,
      );
    return { type: 'counter', labelNames: [label], read, ...text };
  }
}

type Text = { readonly name: string; readonly help: string };

const measure = (type: 'counter' | 'gauge', tally: Tally, text: Text): Measure => ({
  type,
  labelNames: tally.labelNames,
  read: () => tally,
  ...text,
});

const counter = (tally: Tally, text: Text): Measure => measure('counter', tally, text);
const gauge = (tally: Tally, text: Text): Measure => measure('gauge', tally, text);
