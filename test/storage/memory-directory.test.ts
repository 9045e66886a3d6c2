/** Crashes of a member in memory: the same rules as for a data directory. */
import { expect, test } from 'vitest';
import { MemoryState } from '../../server/storage/memory.ts';
import { MemoryDirectory } from '../../server/storage/memory-directory.ts';
import type { ReceivedSnapshot } from '../../server/storage/transfer.ts';

const position = { index: 50, term: 4 };
const hardState = { term: 5, votedFor: 0n, commit: 50 };
const put = (key: string) =>
  ({ kind: 'put', key: Buffer.from(key), value: Buffer.alloc(0) }) as const;

function received(): ReceivedSnapshot {
  const sender = new MemoryState();
  sender.apply(position.index, [put('new')], position.term);
  const bytes = sender.copy();
  const content = { kind: 'memory', bytes } as const;
  return { ...position, sizeBytes: bytes.length, content, async discard() {} };
}

/** A member whose disk does what it was told only when `complete` is called. */
async function member(): Promise<{ directory: MemoryDirectory; complete(): Promise<void> }> {
  const due: (() => void)[] = [];
  const directory = new MemoryDirectory({ schedule: (effect) => due.push(effect) });
  const complete = async (): Promise<void> => {
    for (const effect of due.splice(0)) effect();
    await new Promise((resolve) => setImmediate(resolve));
  };
  const entries = [1, 2, 3].map(
    (index) => ({ index, term: 3, kind: 'command', data: Buffer.alloc(0) }) as const,
  );
  void directory.log.append({ entries, hardState: { term: 3, votedFor: 9n, commit: 3 } });
  directory.state.apply(2, [put('old')], 3);
  await complete();
  return { directory, complete };
}

const holds = ({ state }: MemoryDirectory, key: string): boolean =>
  state.get(Buffer.from(key)) !== undefined;

test('a crash before an installed state is durable keeps the old one', async () => {
  const { directory, complete } = await member();
  void directory.state.install(received());
  directory.crash();
  await complete();
  expect(holds(directory, 'old')).toBe(true);
  expect(directory.recover()).toMatchObject({ start: { index: 0, term: 0 } });
  expect(directory.recover().entries).toHaveLength(3);
  directory.state.apply(3, [], 3);
});

test('a crash between state and log makes the log restart', async () => {
  const { directory, complete } = await member();
  const installed = directory.state.install(received());
  await complete();
  await installed;
  void directory.log.reset(position, hardState);
  directory.crash();
  await complete();
  expect(holds(directory, 'new')).toBe(true);
  expect(directory.recover()).toEqual({
    hardState: { term: 4, votedFor: 0n, commit: 50 },
    start: position,
    entries: [],
  });
  expect(directory.state.installed).toBeUndefined();
});

test.each([true, false])('a reset under way is there or not: %s', async (keepInFlight) => {
  const { directory, complete } = await member();
  const installed = directory.state.install(received());
  await complete();
  await installed;
  void directory.log.reset(position, hardState);
  directory.crash({ keepInFlight });
  const { term } = directory.recover().hardState;
  expect(term).toBe(keepInFlight ? 5 : 4);
});

test('a state ahead of its log for any other reason is refused', async () => {
  const { directory, complete } = await member();
  const installed = directory.state.install(received());
  await complete();
  await installed;
  const reset = directory.log.reset(position, hardState);
  await complete();
  await reset;
  expect(directory.state.installed).toBeUndefined();
  directory.state.apply(60, [], 5);
  await complete();
  expect(() => directory.recover()).toThrow(/up to entry 60 and the log ends at 50/);
});

test('a flush from before an installation that completes after it changes nothing', async () => {
  const due: (() => void)[] = [];
  const state = new MemoryState({ schedule: (effect) => due.push(effect) });
  state.apply(1, [put('old')], 1);
  const installed = state.install(received());
  await new Promise((resolve) => setImmediate(resolve));
  // The disk may complete in any order.
  for (const effect of due.splice(0).reverse()) effect();
  await installed;
  expect(state.backlogBytes).toBe(0);
  state.crash();
  expect(state.applied).toEqual(position);
  expect(state.get(Buffer.from('old'))).toBeUndefined();
});
