/** Which named points each layer comes to; a run of many seeds reports those that it never hit. */
import type { PointName } from '../../server/points.ts';

export const raftPoints: readonly PointName[] = [
  'pre-vote-granted',
  'became-candidate',
  'vote-requested',
  'vote-granted',
  'became-leader',
  'stepped-down',
  'transfer-sent',
  'before-log-write',
  'during-log-write',
  'after-log-write',
  'tail-replaced',
  'before-leader-send',
  'after-leader-send',
  'before-follower-send',
  'after-follower-send',
  'append-rejected',
  'first-append-ack',
  'commit-advanced',
  'before-apply',
  'after-apply',
  'log-released',
  'read-round-started',
  'read-confirmed',
  'read-dropped',
  'configuration-proposed',
  'configuration-written',
  'configuration-committed',
  'configuration-applied',
  'joint-entered',
  'joint-left',
  'learner-added',
  'learner-promoted',
  'member-removed',
  'snapshot-needed',
  'snapshot-opened',
  'snapshot-sent',
  'snapshot-received',
  'before-snapshot-install',
  'after-snapshot-install',
  'proposal-forwarded',
  'proposal-refused',
];

export const fullPoints: readonly PointName[] = [
  'pre-vote-granted',
  'vote-requested',
  'vote-granted',
  'became-leader',
  'stepped-down',
  'transfer-sent',
  'append-rejected',
  'read-round-started',
  'proposal-forwarded',
  'proposal-refused',
  'configuration-applied',
  'before-apply',
  'after-apply',
  'txn-applied',
  'compaction-scheduled',
  'snapshot-needed',
  'snapshot-opened',
  'snapshot-received',
  'before-snapshot-install',
  'after-snapshot-install',
  'file-write',
  'file-flush',
  'file-sync',
  'file-rename',
  'file-remove',
  'directory-sync',
  'state-flushed',
  'watch-behind',
  'watch-sent',
  'lease-renewed',
  'lease-expiry-proposed',
  'leases-extended',
  'duplicate-answered',
  'request-answered',
];

/** Every point of any layer. */
export const allPoints: readonly PointName[] = [...new Set([...raftPoints, ...fullPoints])];

/** How often each point was come to, over all runs. */
export class PointCounts {
  readonly #hits = new Map<string, number>();

  add(point: PointName): void {
    this.#hits.set(point, (this.#hits.get(point) ?? 0) + 1);
  }

  addAll(other: PointCounts): void {
    for (const [point, hits] of other.#hits) {
      this.#hits.set(point, (this.#hits.get(point) ?? 0) + hits);
    }
  }

  of(point: PointName): number {
    return this.#hits.get(point) ?? 0;
  }

  neverHit(points: readonly PointName[]): readonly PointName[] {
    return points.filter((point) => this.of(point) === 0);
  }
}
