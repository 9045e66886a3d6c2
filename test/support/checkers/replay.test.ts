import { expect, test } from 'vitest';
import type { Answer, Change, Operation, RevisionOfLog } from './history.ts';
import { checkWatch, RevisionReplay } from './replay.ts';

const change = (fields: Partial<Change> & { key: string }): Change => ({
  type: 'put',
  value: '',
  createRevision: 0n,
  version: 0n,
  lease: 0n,
  ...fields,
});
const acknowledged = (revision: bigint, changed = true): Answer => ({
  kind: 'acknowledged',
  revision,
  changed,
});
/** A revoke does not say whether it deleted anything. */
const revoked = (revision: bigint): Answer => ({
  kind: 'acknowledged',
  revision,
  changed: undefined,
});
const put = (id: number, key: string, value: string, answer: Answer, floor = 1n): Operation => ({
  id,
  action: { kind: 'put', key, value, lease: 0n },
  floor,
  answer,
});

/** Two puts, a deletion, and a put on a lease that is revoked. */
const log: readonly RevisionOfLog[] = [
  { revision: 2n, changes: [change({ key: 'a', value: 'one', createRevision: 2n, version: 1n })] },
  { revision: 3n, changes: [change({ key: 'a', value: 'two', createRevision: 2n, version: 2n })] },
  { revision: 4n, changes: [change({ key: 'a', type: 'delete' })] },
  {
    revision: 5n,
    changes: [change({ key: 'b', value: 'leased', createRevision: 5n, version: 1n, lease: 9n })],
  },
  { revision: 6n, changes: [change({ key: 'b', type: 'delete' })] },
];
const operations: readonly Operation[] = [
  put(1, 'a', 'one', acknowledged(2n)),
  put(2, 'a', 'two', { kind: 'unknown' }, 2n),
  { id: 3, action: { kind: 'delete', key: 'a' }, floor: 3n, answer: acknowledged(4n) },
  {
    id: 4,
    action: { kind: 'put', key: 'b', value: 'leased', lease: 9n },
    floor: 4n,
    answer: acknowledged(5n),
  },
  { id: 5, action: { kind: 'revoke', lease: 9n }, floor: 5n, answer: revoked(6n) },
  put(6, 'c', 'never happened', { kind: 'unknown' }),
  {
    id: 7,
    action: { kind: 'read', key: 'a' },
    floor: 2n,
    answer: { ...acknowledged(3n, false), found: { value: 'two', modRevision: 3n } } as Answer,
  },
];
const check = (
  withLog: readonly RevisionOfLog[],
  withOperations: readonly Operation[] = operations,
): string[] => new RevisionReplay(1n).advance(withLog, withOperations);
const replaced = (index: number, operation: Operation): Operation[] =>
  operations.map((one, at) => (at === index ? operation : one));

test('a correct history has no violations', () => {
  expect(check(log)).toEqual([]);
});

test('an acknowledged write missing at the end of the log is found', () => {
  expect(check(log.slice(0, 4), operations.slice(0, 5))).toEqual([
    expect.stringContaining('lost: operation 5'),
  ]);
});

test('an acknowledged write replaced by another is found', () => {
  const other = put(9, 'a', 'other', { kind: 'unknown' });
  const altered = log.map((one, index) =>
    index === 0
      ? { ...one, changes: [change({ key: 'a', value: 'other', createRevision: 2n, version: 1n })] }
      : one,
  );
  expect(check(altered, [...operations, other])).toContainEqual(
    expect.stringContaining('lost or altered: operation 1'),
  );
});

test('a write that nobody made is found', () => {
  expect(check(log, replaced(1, put(2, 'a', 'two', { kind: 'refused', reason: 'no' })))).toEqual([
    expect.stringContaining('nobody wrote revision 3'),
  ]);
});

test('a write without an answer that happened twice is found', () => {
  const twice: RevisionOfLog = {
    revision: 7n,
    changes: [change({ key: 'a', value: 'two', createRevision: 7n, version: 1n })],
  };
  expect(check([...log, twice])).toEqual([expect.stringContaining('nobody wrote revision 7')]);
});

test('a missing revision is found', () => {
  expect(check(log.filter((one) => one.revision !== 3n))).toContainEqual(
    'revision 4 follows 2 in the log',
  );
});

test('a write ordered before one that had been acknowledged is found', () => {
  expect(check(log, replaced(0, put(1, 'a', 'one', acknowledged(2n), 2n)))).toEqual([
    expect.stringContaining('order: operation 1'),
  ]);
});

test('a stale read is found', () => {
  const stale: Operation = {
    id: 7,
    action: { kind: 'read', key: 'a' },
    floor: 2n,
    answer: { ...acknowledged(3n, false), found: { value: 'one', modRevision: 2n } } as Answer,
  };
  expect(check(log, replaced(6, stale))).toEqual([expect.stringContaining('stale or torn read')]);
});

test('a read below a revision that had been seen is found', () => {
  const late = { ...operations[6], floor: 5n } as Operation;
  expect(check(log, replaced(6, late))).toEqual([expect.stringContaining('order: operation 7')]);
});

test('a swap that was refused although its condition held is found', () => {
  const swap: Operation = {
    id: 8,
    action: { kind: 'swap', key: 'z', expected: 0n, puts: [{ key: 'z', value: 'swapped' }] },
    floor: 1n,
    answer: acknowledged(6n, false),
  };
  expect(check(log, [...operations, swap])).toEqual([expect.stringContaining('no effect')]);
});

test('a revoke that finds its last key taken over by another write has no effect', () => {
  const takenOver: readonly RevisionOfLog[] = [
    ...log.slice(0, 4),
    {
      revision: 6n,
      changes: [change({ key: 'b', value: 'free', createRevision: 5n, version: 2n })],
    },
  ];
  const history = [...replaced(4, put(5, 'b', 'free', acknowledged(6n), 5n))];
  const revoke: Operation = {
    id: 8,
    action: { kind: 'revoke', lease: 9n },
    floor: 5n,
    answer: revoked(6n),
  };
  expect(check(takenOver, [...history, revoke])).toEqual([]);
});

test('a revoke whose lease keeps a key is found', () => {
  const early = { ...operations[4], floor: 4n, answer: revoked(5n) } as Operation;
  expect(check(log.slice(0, 4), replaced(4, early))).toEqual([
    expect.stringContaining('no effect: operation 5'),
  ]);
});

test('wrong metadata of an event is found', () => {
  const wrong = log.map((one) =>
    one.revision === 3n
      ? { ...one, changes: [change({ key: 'a', value: 'two', createRevision: 3n, version: 1n })] }
      : one,
  );
  expect(check(wrong)).toEqual([expect.stringContaining('shows create 3 version 1')]);
});

test('a listing that differs from the model is found', () => {
  const replay = new RevisionReplay(1n);
  replay.advance(log.slice(0, 2), operations.slice(0, 2));
  const entry = { value: 'two', createRevision: 2n, modRevision: 3n, version: 2n, lease: 0n };
  expect(replay.compareListing(new Map([['a', entry]]))).toEqual([]);
  expect(replay.compareListing(new Map([['a', { ...entry, value: 'one' }]]))).toHaveLength(1);
  expect(replay.compareListing(new Map())).toHaveLength(1);
});

test('a watcher is held to the log: no gap, no duplicate, nothing altered, nothing missing', () => {
  expect(checkWatch(log, log)).toEqual([]);
  expect(
    checkWatch(
      log,
      log.filter((one) => one.revision !== 3n),
    ),
  ).toContainEqual('watch: revision 4 after 2: gap');
  expect(checkWatch(log, [...log.slice(0, 3), ...log.slice(2)])).toContainEqual(
    'watch: revision 4 after 4: duplicate',
  );
  expect(checkWatch(log, log.slice(0, 4))).toEqual([
    'watch: ended at revision 5, the store is at 6',
  ]);
  const altered = log.map((one) => (one.revision === 4n ? { ...one, changes: [] } : one));
  expect(checkWatch(log, altered)).toHaveLength(1);
});
