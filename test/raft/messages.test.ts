/** Single members and single messages: what no cluster of correct members shows, or only rarely. */
import { expect, test } from 'vitest';
import { InvariantError } from '../../server/assert.ts';
import { type RaftConfig, RaftConfigError } from '../../server/raft/config.ts';
import { emptyConfiguration } from '../../server/raft/configuration.ts';
import type { Entry, Message } from '../../server/raft/message.ts';
import { majority, quorumValue, tally } from '../../server/raft/quorum.ts';
import { Raft } from '../../server/raft/raft.ts';

const config: RaftConfig = {
  id: 1n,
  configuration: { ...emptyConfiguration, voters: [1n, 2n, 3n] },
  electionTicks: 10,
  heartbeatTicks: 1,
  preVote: false,
  checkQuorum: false,
  random: { below: () => 0, id: () => 1n },
  recovered: {
    hardState: { term: 0, votedFor: 0n, commit: 0 },
    start: { index: 0, term: 0 },
    entries: [],
  },
  appliedIndex: 0,
};

const entry = (index: number, term: number, size = 0): Entry => ({
  index,
  term,
  kind: 'command',
  data: new Uint8Array(size),
});

/** A follower whose log is `terms`, one entry each, in the last of these terms. */
function followerWith(terms: readonly number[]): Raft {
  const entries = terms.map((term, offset) => entry(offset + 1, term));
  const hardState = { term: terms.at(-1) ?? 0, votedFor: 0n, commit: 0 };
  return new Raft({ ...config, recovered: { ...config.recovered, hardState, entries } });
}

/** Runs what the member wants done, its own disk included, and returns what it sent. */
function work(raft: Raft): Message[] {
  const sent: Message[] = [];
  while (raft.hasReady()) {
    const ready = raft.ready();
    sent.push(...ready.messages);
    if (ready.write !== undefined) raft.stored(ready.write.sequence);
  }
  return sent;
}

/** A leader of three that has committed its no-op. */
function leader(limits: RaftConfig['limits'] = {}): Raft {
  const raft = new Raft({ ...config, limits });
  raft.campaign();
  work(raft);
  raft.step({
    kind: 'vote-response',
    from: 2n,
    to: 1n,
    term: 1,
    granted: true,
    commitIndex: 0,
    commitTerm: 0,
  });
  work(raft);
  raft.step({ kind: 'append-accepted', from: 2n, to: 1n, term: 1, matchIndex: 1 });
  work(raft);
  expect(raft.role).toBe('leader');
  expect(raft.commitIndex).toBe(1);
  return raft;
}

test('an append commits no further than it compared, though the leader has committed more', () => {
  // 3/2 is another leader's; the leader of term 3 holds another entry there.
  const raft = followerWith([1, 2, 2]);
  raft.step({
    kind: 'append',
    from: 2n,
    to: 1n,
    term: 3,
    prevIndex: 1,
    prevTerm: 1,
    entries: [entry(2, 2)],
    commit: 5,
  });
  expect(raft.commitIndex).toBe(2);
});

test('a heartbeat commits nothing before the logs were compared', () => {
  const raft = followerWith([1, 2, 2]);
  const heartbeat = {
    kind: 'heartbeat',
    from: 2n,
    to: 1n,
    term: 3,
    commit: 3,
    context: 0,
  } as const;
  raft.step(heartbeat);
  expect(raft.commitIndex).toBe(0);
  raft.step({
    kind: 'append',
    from: 2n,
    to: 1n,
    term: 3,
    prevIndex: 2,
    prevTerm: 2,
    entries: [],
    commit: 0,
  });
  raft.step(heartbeat);
  expect(raft.commitIndex).toBe(2);
});

test('an append of a past term changes nothing and is answered with the newer term', () => {
  const raft = followerWith([1, 2, 2]);
  raft.step({
    kind: 'append',
    from: 2n,
    to: 1n,
    term: 1,
    prevIndex: 1,
    prevTerm: 1,
    entries: [entry(2, 1)],
    commit: 2,
  });
  expect(raft.lastIndex).toBe(3);
  expect(raft.leader).toBe(0n);
  expect(work(raft)).toMatchObject([{ kind: 'append-rejected', to: 2n, term: 2 }]);
});

test('a match beyond the own log is not believed', () => {
  const raft = leader();
  raft.step({ kind: 'append-accepted', from: 3n, to: 1n, term: 1, matchIndex: 9 });
  work(raft);
  expect(raft.peers().find((peer) => peer.id === 3n)).toMatchObject({ match: 0 });
});

test('messages for another member, or from itself, are ignored', () => {
  const raft = followerWith([1]);
  raft.step({ kind: 'vote', from: 2n, to: 3n, term: 9, lastIndex: 9, lastTerm: 9, transfer: true });
  raft.step({ kind: 'vote', from: 1n, to: 1n, term: 9, lastIndex: 9, lastTerm: 9, transfer: true });
  expect(raft.term).toBe(1);
  expect(raft.hasReady()).toBe(false);
});

test('too many bytes awaiting commit are refused, but never a single large proposal', () => {
  const raft = leader({ uncommittedBytes: 1_000 });
  const proposal = { kind: 'command' as const, data: new Uint8Array(2_000) };
  expect(raft.propose([proposal])).toEqual({
    accepted: true,
    kind: 'appended',
    firstIndex: 2,
    term: 1,
  });
  expect(raft.propose([{ ...proposal, data: new Uint8Array(1) }])).toEqual({
    accepted: false,
    reason: 'overloaded',
  });
  work(raft);
  raft.step({ kind: 'append-accepted', from: 2n, to: 1n, term: 1, matchIndex: 2 });
  expect(raft.propose([proposal])).toMatchObject({ accepted: true, firstIndex: 3 });
});

test('a write is confirmed once, and only the one under way', () => {
  const raft = new Raft(config);
  expect(() => raft.stored(1)).toThrow(InvariantError);
  raft.campaign();
  const sequence = raft.ready().write?.sequence ?? 0;
  expect(() => raft.stored(sequence + 1)).toThrow(InvariantError);
  raft.stored(sequence);
  expect(() => raft.stored(sequence)).toThrow(InvariantError);
});

test('a member that may not vote follows but never campaigns', () => {
  const raft = new Raft({ ...config, id: 4n });
  for (let tick = 0; tick < 50; tick += 1) raft.tick();
  raft.campaign();
  expect(raft.role).toBe('follower');
  raft.step({
    kind: 'append',
    from: 2n,
    to: 4n,
    term: 1,
    prevIndex: 0,
    prevTerm: 0,
    entries: [entry(1, 1)],
    commit: 1,
  });
  expect(work(raft)).toMatchObject([{ kind: 'append-accepted', to: 2n, matchIndex: 1 }]);
  raft.step({ kind: 'timeout-now', from: 2n, to: 4n, term: 1, lastIndex: 0 });
  expect(raft.role).toBe('follower');
});

test('committed entries come in batches of limited size, in order', () => {
  const entries = [1, 2, 3].map((index) => entry(index, 1, 100));
  const raft = new Raft({
    ...config,
    recovered: { ...config.recovered, hardState: { term: 1, votedFor: 0n, commit: 3 }, entries },
    appliedIndex: 1,
    limits: { committedBytes: 1 },
  });
  expect(raft.ready().committed).toEqual([entries[1]]);
  expect(raft.ready().committed).toEqual([entries[2]]);
  expect(raft.hasReady()).toBe(false);
});

test('a start that could not be safe is refused, and the field is named', () => {
  const recovered = { ...config.recovered, entries: [entry(1, 2)] };
  const refused: [Partial<RaftConfig>, RegExp][] = [
    [{ id: 0n }, /'id'/],
    [{ configuration: { ...emptyConfiguration, voters: [1n, 1n] } }, /'voters' must be ascending/],
    [{ heartbeatTicks: 0 }, /'heartbeatTicks' must be at least 1: it is 0/],
    [{ electionTicks: 1 }, /'electionTicks' must be more than heartbeatTicks \(1\): it is 1/],
    [{ limits: { appendBytes: 0 } }, /'limits.appendBytes'/],
    [{ recovered }, /'recovered.hardState.term' must be at least .* \(2\)/],
    [
      { recovered: { ...config.recovered, hardState: { term: 1, votedFor: 0n, commit: 1 } } },
      /'recovered.hardState.commit' must be at most/,
    ],
    [{ appliedIndex: 1 }, /'appliedIndex' must be between 0 and 0/],
  ];
  for (const [change, message] of refused) {
    expect(() => new Raft({ ...config, ...change })).toThrow(RaftConfigError);
    expect(() => new Raft({ ...config, ...change })).toThrow(message);
  }
});

test('majorities', () => {
  expect([1, 2, 3, 4, 5].map(majority)).toEqual([1, 2, 2, 3, 3]);
  const of = (...voters: bigint[]) => ({ ...emptyConfiguration, voters });
  const values = new Map([1n, 2n, 3n, 4n].map((id) => [id, Number(id) * 10]));
  const reached = (id: bigint) => values.get(id) ?? 0;
  expect(quorumValue(of(1n), reached)).toBe(10);
  expect(quorumValue(of(1n, 2n, 3n), reached)).toBe(20);
  expect(quorumValue(of(1n, 2n, 3n, 4n), reached)).toBe(20);
  expect(quorumValue(of(), reached)).toBe(0);
  const votes = (given: Record<number, boolean>) =>
    new Map(Object.entries(given).map(([id, granted]) => [BigInt(id), granted]));
  expect(tally(of(1n, 2n, 3n), votes({ 1: true }))).toBe('open');
  expect(tally(of(1n, 2n, 3n), votes({ 1: true, 2: true }))).toBe('won');
  expect(tally(of(1n, 2n, 3n), votes({ 1: false, 2: false }))).toBe('lost');
  expect(tally(of(1n, 2n, 3n, 4n), votes({ 1: true, 2: false, 3: false }))).toBe('lost');
  expect(tally(of(1n, 2n, 3n), votes({ 1: true, 9: true }))).toBe('open');
});

test('after a refusal a candidate does not wait for members that cannot be reached', () => {
  const refusal = {
    kind: 'pre-vote-response',
    from: 2n,
    to: 1n,
    term: 1,
    granted: false,
    commitIndex: 0,
    commitTerm: 0,
  } as const;
  const given = { ...config.recovered, hardState: { term: 1, votedFor: 0n, commit: 0 } };
  const asking = () => {
    const raft = new Raft({ ...config, preVote: true, recovered: given });
    raft.unreachable(3n);
    return raft;
  };
  const lost = asking();
  lost.campaign();
  expect(lost.role).toBe('pre-candidate');
  lost.step(refusal);
  expect(lost.role).toBe('follower');

  // 3 was heard since, so it may answer.
  const open = asking();
  open.step({ kind: 'timeout-now', from: 3n, to: 1n, term: 1, lastIndex: 0 });
  open.campaign();
  open.step(refusal);
  expect(open.role).toBe('pre-candidate');
});

test('without pre-vote a broken connection to the leader is no reason to campaign', () => {
  const raft = new Raft({ ...config, preVote: false });
  raft.step({ kind: 'heartbeat', from: 2n, to: 1n, term: 1, commit: 0, context: 0 });
  raft.unreachable(2n);
  expect(raft.leader).toBe(2n);
});
