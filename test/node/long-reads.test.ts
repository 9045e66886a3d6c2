/** How reads that take long share the event loop, on virtual time. */
import { expect, test } from 'vitest';
import { LongReads } from '../../server/long-reads.ts';
import { SLICE_MS } from '../../server/time-slice.ts';

/** A clock that only work moves, and turns of the loop that are taken by hand. */
function rig() {
  let nowMs = 0;
  let due: (() => void)[] = [];
  const steps: string[] = [];
  const reads = new LongReads({
    clock: { nowMs: () => nowMs, wallMs: () => nowMs },
    timers: {
      after: () => () => undefined,
      every: () => () => undefined,
      soon: (run) => {
        due.push(run);
      },
    },
  });
  /** A read of so many steps of 1 ms. */
  const begin = (name: string, count: number, check = () => {}): Promise<string> => {
    let done = 0;
    return reads.run<string>(() => {
      nowMs += 1;
      done += 1;
      steps.push(name);
      return done === count ? { done: true, value: name } : { done: false, value: undefined };
    }, check);
  };
  /** One turn of the loop: what ran in it, and for how long. */
  const turn = (): { names: string[]; ms: number } => {
    const began = nowMs;
    const running = due;
    due = [];
    steps.length = 0;
    for (const run of running) run();
    return { names: [...new Set(steps)], ms: nowMs - began };
  };
  return { begin, turn };
}

test('one slice of one read a turn, however many there are', () => {
  const { begin, turn } = rig();
  for (let read = 0; read < 50; read += 1) void begin(`${read}`, 20);
  for (let turns = 0; turns < 100; turns += 1) {
    const { names, ms } = turn();
    expect(names).toHaveLength(1);
    expect(ms).toBe(SLICE_MS);
  }
});

test('four take turns, the others wait until one of them is over', async () => {
  const { begin, turn } = rig();
  const long = ['a', 'b', 'c', 'd'].map((name) => begin(name, 100));
  const short = begin('e', 1);
  const turns = Array.from({ length: 8 }, () => turn().names.join());
  expect(turns).toEqual(['a', 'b', 'c', 'd', 'a', 'b', 'c', 'd']);
  let last = turn();
  while (last.names.length > 0 && !last.names.includes('e')) last = turn();
  expect(await short).toBe('e');
  while (turn().names.length > 0);
  expect(await Promise.all(long)).toEqual(['a', 'b', 'c', 'd']);
});

test('a read that is given up, or fails, makes room for the next', async () => {
  const { begin, turn } = rig();
  let isWanted = true;
  const unwanted = Array.from({ length: 4 }, (_, read) =>
    begin(`${read}`, 100, () => {
      if (!isWanted) throw new Error('nobody waits');
    }),
  );
  const after = begin('after', 1);
  turn();
  isWanted = false;
  for (let turns = 0; turns < 4; turns += 1) expect(turn().names).toEqual([]);
  for (const read of unwanted) await expect(read).rejects.toThrow('nobody waits');
  expect(turn().names).toEqual(['after']);
  expect(await after).toBe('after');
});

test('nothing is scheduled when there is nothing to read', () => {
  const { begin, turn } = rig();
  void begin('a', 1);
  expect(turn().names).toEqual(['a']);
  expect(turn()).toEqual({ names: [], ms: 0 });
});
