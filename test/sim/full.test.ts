/** A few seeds of whole clusters with clients, and proof that the checkers find what is planted. */
import { afterEach, expect, test, vi } from 'vitest';
import { MemoryState } from '../../server/storage/memory.ts';
import { WatchStream } from '../../server/watch/stream.ts';
import { CommitLog } from './full/commit-log.ts';
import { runSeed } from './run.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

async function violations(seeds: readonly number[]): Promise<readonly number[]> {
  const found: number[] = [];
  for (const seed of seeds) {
    // What the others do depends on which workloads there are.
    const { violation } = await runSeed('full', seed, { workload: 'store' });
    if (violation !== undefined) found.push(violation.invariant);
  }
  return found;
}

test('seeds hold every invariant, and a seed repeats itself', async () => {
  for (const seed of [1, 2, 3]) {
    const { violation, hash } = await runSeed('full', seed);
    expect(violation?.message, `npm run sim -- ${seed} --layer full`).toBeUndefined();
    if (seed === 1) expect((await runSeed('full', seed)).hash).toBe(hash);
  }
});

test('a watch that loses events is found', async () => {
  const real = WatchStream.prototype.take;
  let taken = 0;
  vi.spyOn(WatchStream.prototype, 'take').mockImplementation(function (this: WatchStream) {
    const delivery = real.call(this);
    taken += 1;
    return delivery?.kind === 'events' && taken % 20 === 0 ? real.call(this) : delivery;
  });
  expect(await violations([1, 2, 4])).toContain(15);
});

test('a state that forgets a write is found', async () => {
  const real = MemoryState.prototype.apply;
  let applied = 0;
  vi.spyOn(MemoryState.prototype, 'apply').mockImplementation(function (
    this: MemoryState,
    index,
    writes,
    term,
  ) {
    applied += 1;
    real.call(this, index, applied % 10 === 0 ? writes.slice(1) : writes, term);
  });
  expect((await violations([1, 2, 4])).length).toBeGreaterThan(0);
});

test('members that publish different revisions, or leave one out, are found', () => {
  const put = (value: string) =>
    [
      {
        kind: 'put',
        kv: {
          key: Buffer.from('k'),
          value: Buffer.from(value),
          createRevision: 2,
          modRevision: 2,
          version: 1,
          lease: 0n,
        },
      },
    ] as const;
  const log = new CommitLog();
  log.published(1, 2, put('a'));
  log.published(2, 2, put('a'));
  expect(() => log.published(3, 2, put('b'))).toThrow('invariant 4');
  expect(() => log.published(1, 4, put('c'))).toThrow('invariant 10');
});
