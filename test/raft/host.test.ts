/** What the host relies on, and what is asked of it: founding, joining, installing, applying. */
import { expect, test } from 'vitest';
import { InvariantError } from '../../server/assert.ts';
import type { RaftConfig } from '../../server/raft/config.ts';
import { emptyConfiguration, singleMember } from '../../server/raft/configuration.ts';
import type { Entry, Message, Ready } from '../../server/raft/message.ts';
import { Raft } from '../../server/raft/raft.ts';

const config: RaftConfig = {
  id: 1n,
  configuration: { ...emptyConfiguration, voters: [1n, 2n, 3n] },
  electionTicks: 10,
  heartbeatTicks: 1,
  preVote: true,
  checkQuorum: true,
  random: { below: () => 0, id: () => 7n },
  recovered: {
    hardState: { term: 1, votedFor: 0n, commit: 0 },
    start: { index: 0, term: 0 },
    entries: [],
  },
  appliedIndex: 0,
};

const change = (index: number, term = 1): Entry => ({
  index,
  term,
  kind: 'configuration',
  data: Buffer.from('founders'),
});

/** Carries out everything but applying. */
function work(raft: Raft): Ready[] {
  const done: Ready[] = [];
  while (raft.hasReady()) {
    const ready = raft.ready();
    done.push(ready);
    if (ready.write !== undefined) raft.stored(ready.write.sequence);
  }
  return done;
}

function tick(raft: Raft, count: number): void {
  for (let done = 0; done < count; done += 1) raft.tick();
}

/** The only voter, leading term 2 with its no-op applied at 1. */
function alone(): Raft {
  const raft = new Raft({ ...config, configuration: singleMember(1n) });
  raft.campaign();
  work(raft);
  raft.applied(1);
  expect(raft.role).toBe('leader');
  return raft;
}

const snapshot = (index: number, term: number): Message => ({
  kind: 'snapshot',
  from: 2n,
  to: 1n,
  term,
  index,
  indexTerm: term,
  configuration: { ...emptyConfiguration, voters: [1n, 2n], learners: [3n] },
});

test('a member that joins knows nobody, and does not campaign before it is told of itself', () => {
  const raft = new Raft({ ...config, configuration: emptyConfiguration });
  tick(raft, 50);
  raft.campaign();
  expect(raft.role).toBe('follower');
  expect(work(raft).flatMap((ready) => ready.messages)).toEqual([]);
});

test('a founder finds itself among the members in the first entry', () => {
  const entries = [change(1)];
  const hardState = { term: 1, votedFor: 0n, commit: 1 };
  const recovered = { ...config.recovered, hardState, entries };
  const raft = new Raft({ ...config, configuration: emptyConfiguration, recovered });
  expect(work(raft)[0]?.committed).toEqual(entries);
  tick(raft, 50);
  expect(raft.role).toBe('follower');
  raft.configure(1, singleMember(1n));
  raft.applied(1);
  raft.tick();
  work(raft);
  expect(raft.role).toBe('leader');
});

test('a configuration entry is not applied without its configuration', () => {
  const raft = alone();
  raft.propose([{ kind: 'configuration', data: Buffer.from('x') }]);
  work(raft);
  expect(() => raft.applied(2)).toThrow(InvariantError);
  raft.configure(2, singleMember(1n));
  raft.applied(2);
  expect(raft.appliedIndex).toBe(2);
});

test('neither what was not given out nor what is no configuration comes into force', () => {
  const raft = alone();
  expect(() => raft.configure(2, singleMember(1n))).toThrow(InvariantError);
  expect(() => raft.configure(1, { ...emptyConfiguration, voters: [2n, 1n] })).toThrow(
    InvariantError,
  );
});

test('a proposal holds one change of the members at most, all of it or nothing', () => {
  const raft = alone();
  const one = { kind: 'configuration' as const, data: Buffer.from('x') };
  expect(raft.propose([one, one])).toEqual({ accepted: false, reason: 'change-pending' });
  expect(raft.lastIndex).toBe(1);
  expect(raft.propose([{ kind: 'command', data: Buffer.from('a') }, one])).toMatchObject({
    accepted: true,
    firstIndex: 2,
  });
});

test('a change of the members is neither forwarded nor taken from a follower', () => {
  const proposals = [{ kind: 'configuration' as const, data: Buffer.from('x') }];
  const follower = new Raft(config);
  follower.step({ kind: 'heartbeat', from: 2n, to: 1n, term: 2, commit: 0, context: 0 });
  expect(follower.propose(proposals)).toEqual({ accepted: false, reason: 'not-leader' });
  expect(follower.propose([])).toMatchObject({ accepted: true, kind: 'forwarded' });

  const leader = alone();
  leader.step({
    kind: 'propose',
    from: 2n,
    to: 1n,
    term: 2,
    incarnation: 9n,
    request: 1,
    proposals,
  });
  expect(leader.lastIndex).toBe(1);
  const answer = { kind: 'propose-refused', to: 2n, incarnation: 9n, request: 1 };
  expect(work(leader)[0]?.messages).toMatchObject([{ ...answer, reason: 'not-leader' }]);
});

test('a snapshot is written with the state that belongs to it, and in force when that is done', () => {
  const raft = new Raft(config);
  raft.step(snapshot(5, 2));
  const { write, messages, committed } = raft.ready();
  expect(write).toMatchObject({
    snapshot: { index: 5, term: 2, configuration: { learners: [3n] } },
    hardState: { term: 2, commit: 5 },
    entries: [],
  });
  expect(messages).toEqual([]);
  expect(committed).toEqual([]);
  expect(raft.configuration).toEqual(config.configuration);

  raft.stored(write?.sequence ?? 0);
  expect(raft.appliedIndex).toBe(5);
  expect(raft.commitIndex).toBe(5);
  expect(raft.configuration.learners).toEqual([3n]);
  expect(raft.ready().messages).toMatchObject([{ kind: 'append-accepted', matchIndex: 5 }]);
  expect(raft.hasReady()).toBe(false);
});

test('entries that follow a snapshot are stored with it and applied after it', () => {
  const raft = new Raft(config);
  raft.step(snapshot(5, 2));
  const entry: Entry = { index: 6, term: 2, kind: 'command', data: Buffer.from('a') };
  const position = { prevIndex: 5, prevTerm: 2 };
  const append = { kind: 'append' as const, from: 2n, to: 1n, term: 2, ...position };
  raft.step({ ...append, entries: [entry], commit: 6 });
  const { write, committed } = raft.ready();
  expect(write).toMatchObject({
    snapshot: { index: 5 },
    hardState: { commit: 5 },
    entries: [entry],
  });
  expect(committed).toEqual([]);
  raft.stored(write?.sequence ?? 0);
  expect(raft.ready().committed).toEqual([entry]);
});

test('a member that campaigns and gets a snapshot gives up: a change may be in it', () => {
  const raft = new Raft({ ...config, preVote: false });
  raft.campaign();
  work(raft);
  expect(raft.role).toBe('candidate');
  raft.step(snapshot(5, 2));
  expect(raft.role).toBe('follower');
  raft.step({
    kind: 'vote-response',
    from: 2n,
    to: 1n,
    term: 2,
    granted: true,
    commitIndex: 0,
    commitTerm: 0,
  });
  expect(raft.role).toBe('follower');
  // Nor does it try again before the snapshot is stored.
  const { write } = raft.ready();
  tick(raft, 30);
  expect(raft.role).toBe('follower');
  raft.stored(write?.sequence ?? 0);
  raft.tick();
  expect(raft.role).toBe('candidate');
});

test('a leader does not need a snapshot', () => {
  const raft = alone();
  raft.step({ ...snapshot(9, 2) });
  expect(raft.hasReady()).toBe(false);
  expect(raft.commitIndex).toBe(1);
});

test('entries that were given out before a snapshot may still be reported as applied', () => {
  const entries = [1, 2, 3].map((index) => ({ ...change(index), kind: 'command' as const }));
  const hardState = { term: 1, votedFor: 0n, commit: 3 };
  const raft = new Raft({ ...config, recovered: { ...config.recovered, hardState, entries } });
  expect(work(raft)[0]?.committed.length).toBe(3);
  raft.step(snapshot(9, 2));
  raft.applied(2);
  expect(raft.appliedIndex).toBe(2);
  work(raft);
  expect(raft.appliedIndex).toBe(9);
  raft.applied(3);
  expect(raft.appliedIndex).toBe(9);
});

test('what was committed and not given out yet is in the snapshot, and not given out any more', () => {
  const entries = [1, 2, 3].map((index) => ({ ...change(index), kind: 'command' as const }));
  const hardState = { term: 1, votedFor: 0n, commit: 3 };
  const recovered = { ...config.recovered, hardState, entries };
  const raft = new Raft({ ...config, recovered, limits: { committedBytes: 1 } });
  raft.step({ kind: 'heartbeat', from: 2n, to: 1n, term: 2, commit: 0, context: 0 });
  const first = raft.ready();
  expect(first.committed.length).toBe(1);
  expect(first.write).toBeDefined();

  raft.step(snapshot(9, 2));
  expect(raft.ready()).toMatchObject({ write: undefined, committed: [] });
  raft.stored(first.write?.sequence ?? 0);
  const second = raft.ready();
  expect(second).toMatchObject({ write: { snapshot: { index: 9 } }, committed: [] });
  expect(raft.ready().committed).toEqual([]);
  raft.stored(second.write?.sequence ?? 0);
  expect(raft.ready().committed).toEqual([]);
  expect(raft.appliedIndex).toBe(9);
});

test('a candidate that learns of a committed change applies it before it goes on', () => {
  const entries = [change(1)];
  const recovered = { ...config.recovered, entries };
  const raft = new Raft({ ...config, recovered });
  raft.campaign();
  expect(raft.role).toBe('pre-candidate');
  const commit = { commitIndex: 1, commitTerm: 1 };
  const answer = { kind: 'pre-vote-response', from: 2n, to: 1n, term: 2, granted: true } as const;
  raft.step({ ...answer, ...commit });
  expect(raft.role).toBe('follower');
  raft.campaign();
  expect(raft.role).toBe('follower');
  expect(work(raft)[0]?.committed).toEqual(entries);
  raft.configure(1, config.configuration);
  raft.applied(1);
  raft.campaign();
  raft.step({ ...answer, ...commit });
  expect(raft.role).toBe('candidate');
});

test('only the leader hands over', () => {
  const raft = new Raft(config);
  raft.step({ kind: 'heartbeat', from: 2n, to: 1n, term: 2, commit: 0, context: 0 });
  raft.step({ kind: 'timeout-now', from: 3n, to: 1n, term: 2, lastIndex: 0 });
  expect(raft.role).toBe('follower');
  raft.step({ kind: 'timeout-now', from: 2n, to: 1n, term: 2, lastIndex: 0 });
  expect(raft.role).toBe('candidate');
});

test('a member is told that it lacks what it had confirmed, once for each heartbeat', () => {
  const raft = new Raft(config);
  const heartbeat = { kind: 'heartbeat', from: 2n, to: 1n, term: 2, context: 0 } as const;
  raft.step({ ...heartbeat, commit: 0 });
  expect(work(raft).every((ready) => ready.forgotten === undefined)).toBe(true);
  raft.step({ ...heartbeat, commit: 4 });
  expect(raft.ready().forgotten).toBe(4);
  expect(raft.hasReady()).toBe(false);
});
