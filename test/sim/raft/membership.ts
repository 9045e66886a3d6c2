/**
 * What the host of a Raft core does about configuration entries: the data of an entry names the
 * changes, and what they lead to depends on what was in force when it is applied.
 */
import {
  type Configuration,
  changed,
  isJoint,
  left,
  type MembershipChange,
} from '../../../server/raft/configuration.ts';
import { isQuorum } from './majorities.ts';

const KINDS: readonly MembershipChange['kind'][] = ['add-voter', 'add-learner', 'remove'];

/** The id makes every proposal's data its own. */
export function encodeChanges(id: number, changes: readonly MembershipChange[]): Uint8Array {
  const data = Buffer.alloc(4 + 2 * changes.length);
  data.writeUInt32LE(id);
  for (const [at, { kind, node }] of changes.entries()) {
    data.writeUInt8(KINDS.indexOf(kind), 4 + 2 * at);
    data.writeUInt8(Number(node), 5 + 2 * at);
  }
  return data;
}

/** What is in force after the entry; the same as before when it is not possible (any more). */
export function configurationAfter(current: Configuration, data: Uint8Array): Configuration {
  if (data.length === 0) return isJoint(current) ? left(current) : current;
  const changes: MembershipChange[] = [];
  for (let at = 4; at + 1 < data.length; at += 2) {
    const kind = KINDS[data[at] ?? 0];
    if (kind !== undefined) changes.push({ kind, node: BigInt(data[at + 1] ?? 0) });
  }
  return changed(current, changes) ?? current;
}

/** Whether every quorum of one shares a member with every quorum of the other. */
export function doQuorumsIntersect(a: Configuration, b: Configuration): boolean {
  const nodes = [...new Set([...a.voters, ...a.outgoing, ...b.voters, ...b.outgoing])];
  for (let subset = 0; subset < 1 << nodes.length; subset += 1) {
    const inside = new Set(nodes.filter((_, at) => (subset & (1 << at)) !== 0));
    const isDisjoint =
      isQuorum(a, (node) => inside.has(node)) && isQuorum(b, (node) => !inside.has(node));
    if (isDisjoint) return false;
  }
  return true;
}

/** A change that may be proposed now; 0 always chooses the first possibility. */
export function chooseChanges(
  { voters, learners }: Configuration,
  newcomer: bigint | undefined,
  choose: (bound: number) => number,
): readonly MembershipChange[] {
  const voter = voters[choose(Math.max(1, voters.length))];
  const learner = learners[choose(Math.max(1, learners.length))];
  const incoming = learner ?? newcomer;
  switch (choose(7)) {
    case 0:
    case 1:
      if (learners.length < 2 && newcomer !== undefined) {
        return [{ kind: 'add-learner', node: newcomer }];
      }
      return learner === undefined ? [] : [{ kind: 'add-voter', node: learner }];
    case 2:
      return incoming === undefined || voters.length >= 7
        ? []
        : [{ kind: 'add-voter', node: incoming }];
    case 3:
      return voter === undefined || voters.length === 1 ? [] : [{ kind: 'remove', node: voter }];
    case 4:
      return learner === undefined ? [] : [{ kind: 'remove', node: learner }];
    case 5:
      return voter === undefined || voters.length === 1
        ? []
        : [{ kind: 'add-learner', node: voter }];
    default: {
      if (voter === undefined || incoming === undefined) return [];
      const leaving = choose(2) === 0 ? 'remove' : 'add-learner';
      return [
        { kind: 'add-voter', node: incoming },
        { kind: leaving, node: voter },
      ];
    }
  }
}
