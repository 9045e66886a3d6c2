/** Notes what a started member does, at the seams between its shipped parts. */
import type { PointName } from '../../../server/points.ts';
import type { CommitLog } from './commit-log.ts';
import type { FullMember } from './member.ts';

export type Observer = {
  readonly log: CommitLog;
  reached(point: PointName): void;
  /** Revisions in the order in which this member publishes them. */
  published(revision: number): void;
  /** What the check throws must not reach shipped code. */
  watching(check: () => void): void;
};

export function observe(member: FullMember, observer: Observer): void {
  const { running } = member;
  if (running === undefined) return;
  const { reached } = observer;
  const { hub } = running.member;
  const { peering } = running;
  const publish = hub.publish.bind(hub);
  hub.publish = (revision, events) => {
    observer.published(revision);
    observer.watching(() => observer.log.published(member.number, revision, events));
    publish(revision, events);
    reached('txn-applied');
  };
  const before = <Args extends readonly unknown[], Result>(
    point: PointName,
    call: (...args: Args) => Result,
  ) => {
    return (...args: Args): Result => {
      reached(point);
      return call(...args);
    };
  };
  hub.compacted = before('compaction-scheduled', hub.compacted.bind(hub));
  hub.resume = before('watch-behind', hub.resume.bind(hub));
  peering.openSnapshot = before('snapshot-received', peering.openSnapshot.bind(peering));
  peering.snapshotNeeded = before('snapshot-needed', peering.snapshotNeeded.bind(peering));
  peering.membersChanged = before('configuration-applied', peering.membersChanged.bind(peering));
  const { member: local } = running;
  local.renewLeasesHere = before('lease-renewed', local.renewLeasesHere.bind(local));
  let wasLeader = false;
  const leadershipChanged = peering.leadershipChanged.bind(peering);
  peering.leadershipChanged = () => {
    leadershipChanged();
    if (local.isLeader && !wasLeader) reached('became-leader');
    if (!local.isLeader && wasLeader) reached('stepped-down');
    wasLeader = local.isLeader;
  };
}
