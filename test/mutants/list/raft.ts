/** Defects of the Raft core. */
import type { Killer, Mutant } from '../mutant.ts';

const seeds = (budget: 'T1' | 'T2'): Killer => ({ kind: 'simulation', layer: 'raft', budget });

const scripts = (name: string): Killer => ({
  kind: 'test',
  file: 'test/raft/scripts.test.ts',
  name,
});

const raft = (
  number: number,
  name: string,
  file: string,
  find: string,
  replace: string,
  ...killers: readonly Killer[]
): Mutant => ({
  number,
  name,
  patches: [{ file: `server/raft/${file}`, find, replace }],
  killers,
});

export const raftMutants: readonly Mutant[] = [
  raft(
    1,
    'vote not persisted',
    'durability.ts',
    'return a.term !== b.term || a.votedFor !== b.votedFor;',
    'return a.term !== b.term;',
    seeds('T2'),
  ),
  raft(
    2,
    'no log-up-to-date check',
    'log.ts',
    'if (last.term !== this.lastTerm) return last.term > this.lastTerm;\n    return last.index >= this.lastIndex;',
    'return last.index >= 0;',
    seeds('T1'),
  ),
  raft(
    3,
    'compares length only',
    'log.ts',
    'if (last.term !== this.lastTerm) return last.term > this.lastTerm;\n',
    '',
    seeds('T1'),
  ),
  raft(
    4,
    'two votes per term',
    'vote.ts',
    '(isFree || state.votedFor === request.from) &&',
    'state.leader === NO_NODE &&',
    seeds('T1'),
  ),
  raft(
    5,
    'quorum is half',
    'quorum.ts',
    'return Math.floor(members / 2) + 1;',
    'return Math.max(1, Math.floor(members / 2));',
    seeds('T1'),
  ),
  raft(
    8,
    'commits entries of earlier terms by counting',
    'replication.ts',
    '|| state.log.term(index) !== state.term) return;',
    ') return;',
    seeds('T2'),
    scripts('commit figure 8'),
  ),
  raft(
    9,
    'commits by minority',
    'quorum.ts',
    'descending[majority(voters.length) - 1]',
    'descending[Math.max(0, majority(voters.length) - 2)]',
    seeds('T1'),
  ),
  raft(
    10,
    'no check of the previous term',
    'follower.ts',
    '!log.matches({ index: prevIndex, term: prevTerm })',
    'prevIndex > log.lastIndex',
    seeds('T1'),
  ),
  raft(
    11,
    'conflict not truncated',
    'log.ts',
    'const fresh = entries.findIndex((entry) => !this.#knows(entry));',
    'const fresh = entries.findIndex((entry) => entry.index > this.lastIndex);',
    seeds('T1'),
  ),
  raft(
    13,
    'commit not clamped to matched index',
    'follower.ts',
    'state.commitTo(Math.min(message.commit, follower.matchIndex));\n  state.sendWhenStored',
    'state.commitTo(Math.min(message.commit, log.lastIndex));\n  state.sendWhenStored',
    seeds('T2'),
  ),
  raft(
    15,
    'acknowledges its last index',
    'follower.ts',
    'const matchIndex = Math.max(prevIndex + entries.length, log.commit);',
    'const matchIndex = log.lastIndex;',
    scripts('append conflicting'),
  ),
  raft(
    16,
    'counts a stale confirmation of storage',
    'durability.ts',
    'this.#underWay.lastIndex = Math.min(this.#underWay.lastIndex, kept);',
    '',
    scripts('storage late ack'),
  ),
  raft(
    17,
    'acknowledges before the flush',
    'follower.ts',
    "state.sendWhenStored({ kind: 'append-accepted'",
    "state.send({ kind: 'append-accepted'",
    seeds('T1'),
  ),
  raft(
    18,
    'votes before the flush',
    'vote.ts',
    "state.sendWhenStored({\n    kind: 'vote-response'",
    "state.send({\n    kind: 'vote-response'",
    seeds('T1'),
  ),
  raft(
    25,
    'read index without a quorum',
    'read-index.ts',
    'voter === state.id ? reads.context : (leader.peers.get(voter)?.readContext ?? 0),',
    'reads.context,',
    seeds('T1'),
  ),
  raft(
    26,
    'read index before the own term committed',
    'read-index.ts',
    'if (reads.waiting.length === 0 || state.log.commit < leader.firstIndex) return;',
    'if (reads.waiting.length === 0) return;',
    seeds('T1'),
  ),
];
