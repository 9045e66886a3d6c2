/** The end of a run: the members that are left have applied the same, and hold the same. */
import { SECOND } from '../engine/engine.ts';
import { hold } from '../engine/violation.ts';
import type { CommitLog } from './commit-log.ts';
import type { FullMember } from './member.ts';

export type Judge = {
  readonly log: CommitLog;
  /** Of those that are healed. */
  readonly members: () => readonly FullMember[];
  readonly leader: () => FullMember | undefined;
  /** Runs events until `isDone`, for so long at most; tells whether it is. */
  readonly advance: (isDone: () => boolean, forUs: number) => Promise<boolean>;
  readonly rejected: (reason: unknown) => void;
};

/** @returns whether they became equal in time; whether they hold the same is checked then */
export async function agree(judge: Judge, forUs: number): Promise<boolean> {
  if (!(await judge.advance(() => isEven(judge), forUs))) return false;
  const members = currentMembers(judge);
  const newest = judge.log.revision;
  /** By revision, as a lease may still end between two answers. */
  const hashes = new Map<number, number>();
  let answers = 0;
  for (const { number, running } of members) {
    running?.member
      .hashKv(0)
      .then(({ hash, hashRevision }) => {
        answers += 1;
        const known = hashes.get(hashRevision) ?? hash;
        hashes.set(hashRevision, known);
        hold(
          hash === known,
          11,
          () =>
            `member ${number} has hash ${hash} at revision ${hashRevision}, another one ${known}`,
        );
        hold(
          hashRevision >= newest,
          12,
          () => `the revision of member ${number} fell from ${newest} to ${hashRevision}`,
        );
      })
      .catch(judge.rejected);
  }
  await judge.advance(() => answers === members.length, SECOND);
  return true;
}

function isEven(judge: Judge): boolean {
  const members = currentMembers(judge);
  const commit = judge.leader()?.running?.member.commitIndex;
  return (
    commit !== undefined &&
    members.length > 0 &&
    // What anybody published was committed, even if the leader has not found that out yet.
    members.every(
      ({ running }) =>
        running !== undefined &&
        running.member.appliedIndex === commit &&
        running.member.revision >= judge.log.revision,
    )
  );
}

/** Those that are members as far as their leader knows, and have started. */
function currentMembers({ members, leader }: Judge): readonly FullMember[] {
  const known = leader()?.running?.member.members ?? [];
  const ids = new Set(known.filter(({ name }) => name !== '').map(({ id }) => id));
  return members().filter(({ stores }) => ids.has(stores.identity?.memberId ?? 0n));
}

export function describeMembers(members: readonly FullMember[]): string {
  return members
    .map(({ number, running }) => {
      if (running === undefined) return `${number} does not serve`;
      const { isLeader, term, appliedIndex, commitIndex, leader } = running.member;
      const role = isLeader ? 'leads' : `follows ${leader}`;
      return `${number} ${role} term ${term} applied ${appliedIndex} commit ${commitIndex}`;
    })
    .join(', ');
}
