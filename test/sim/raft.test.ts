/** A few seeds of the layer of the Raft core, and proof that its checkers find what is planted. */
import { afterEach, expect, test, vi } from 'vitest';
import { emptyConfiguration } from '../../server/raft/configuration.ts';
import { RaftLog } from '../../server/raft/log.ts';
import type { Ready } from '../../server/raft/message.ts';
import { Raft } from '../../server/raft/raft.ts';
import { State } from '../../server/raft/state.ts';
import { LogDisk } from './raft/log-disk.ts';
import { configurationAfter, doQuorumsIntersect, encodeChanges } from './raft/membership.ts';
import { ProposalLedger } from './raft/proposals.ts';
import { runSeed } from './run.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

async function violations(seeds: number): Promise<ReadonlySet<number>> {
  const found = new Set<number>();
  for (let seed = 1; seed <= seeds; seed += 1) {
    const { violation } = await runSeed('raft', seed);
    if (violation !== undefined) found.add(violation.invariant);
  }
  return found;
}

/** Lets every core give out something else than it would. */
function tamper(change: (ready: Ready, raft: Raft) => Ready): void {
  const real = Raft.prototype.ready;
  vi.spyOn(Raft.prototype, 'ready').mockImplementation(function (this: Raft) {
    return change(real.call(this), this);
  });
}

test('seeds hold every invariant', async () => {
  for (let seed = 1; seed <= 60; seed += 1) {
    const { violation } = await runSeed('raft', seed);
    expect(violation?.message, `npm run sim -- ${seed} --layer raft`).toBeUndefined();
  }
});

test('the same seed gives the same trace, another seed another one', async () => {
  const hashes = [await runSeed('raft', 7), await runSeed('raft', 7), await runSeed('raft', 8)];
  expect(hashes[0]?.hash).toBe(hashes[1]?.hash);
  expect(hashes[0]?.hash).not.toBe(hashes[2]?.hash);
});

test('a leader without what was committed is found', async () => {
  vi.spyOn(RaftLog.prototype, 'isCoveredBy').mockReturnValue(true);
  expect(await violations(20)).toContain(3);
});

test('promises about the disk that are not true yet are found', async () => {
  vi.spyOn(State.prototype, 'sendWhenStored').mockImplementation(function (this: State, message) {
    this.send(message);
  });
  const found = await violations(10);
  expect([...found].some((invariant) => invariant === 5 || invariant === 6)).toBe(true);
});

test('a vote that the disk forgets is found', async () => {
  const real = LogDisk.prototype.finish;
  vi.spyOn(LogDisk.prototype, 'finish').mockImplementation(function (this: LogDisk, write, count) {
    const { hardState, ...others } = write;
    const term = hardState?.term ?? 0;
    const forgetful =
      hardState === undefined
        ? others
        : { ...write, hardState: { ...hardState, votedFor: 0n, term } };
    real.call(this, forgetful, count);
  });
  expect(await violations(5)).toContain(5);
});

test('a read that misses what was committed is found', async () => {
  tamper((ready) => ({ ...ready, reads: ready.reads.map(({ id }) => ({ id, index: 0 })) }));
  expect(await violations(5)).toContain(9);
});

test('other entries than were committed are found', async () => {
  tamper((ready) => ({
    ...ready,
    committed: ready.committed.map((entry) => ({ ...entry, data: Buffer.from('another') })),
  }));
  expect(await violations(5)).toContain(4);
});

test('entries that differ under the same index and term are found', async () => {
  tamper((ready, raft) => {
    if (ready.write === undefined || raft.id !== 2n) return ready;
    const entries = ready.write.entries.map((entry) => ({ ...entry, data: Buffer.from('forged') }));
    return { ...ready, write: { ...ready.write, entries } };
  });
  const found = await violations(10);
  expect([...found].some((invariant) => invariant === 2 || invariant === 4)).toBe(true);
});

test('a cluster that does not recover is found', async () => {
  vi.spyOn(Raft.prototype, 'tick').mockImplementation(() => undefined);
  expect(await violations(3)).toContain(21);
});

test('a failing assertion of the core is found', async () => {
  vi.spyOn(Raft.prototype, 'stored').mockImplementation(() => {
    throw new Error('planted');
  });
  expect(await violations(2)).toContain(22);
});

test('a proposal that is committed twice, in another term, or after its refusal is found', () => {
  const entry = (index: number, term: number) =>
    ({ index, term, kind: 'command', data: encodeChanges(0, []) }) as const;
  const ledger = () => {
    const made = new ProposalLedger();
    made.add('a', [0], { accepted: true, kind: 'forwarded', request: 1, term: 3 });
    return made;
  };
  const twice = ledger();
  twice.committed(entry(5, 3));
  expect(() => twice.committed(entry(6, 3))).toThrow('committed twice');
  expect(() => ledger().committed(entry(5, 4))).toThrow('made in term 3');
  const refused = ledger();
  refused.refused('a', 1);
  expect(() => refused.committed(entry(5, 3))).toThrow('was refused');
});

test('configurations whose quorums do not meet are told from those that follow each other', () => {
  const voters = (...list: bigint[]) => ({ ...emptyConfiguration, voters: list });
  expect(doQuorumsIntersect(voters(1n, 2n, 3n), voters(1n, 2n, 3n, 4n))).toBe(true);
  expect(doQuorumsIntersect(voters(1n, 2n, 3n), voters(3n, 4n, 5n))).toBe(false);
  const joint = configurationAfter(
    voters(1n, 2n, 3n),
    encodeChanges(1, [
      { kind: 'add-voter', node: 4n },
      { kind: 'remove', node: 1n },
    ]),
  );
  expect(doQuorumsIntersect(voters(1n, 2n, 3n), joint)).toBe(true);
});
