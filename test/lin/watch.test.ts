import { expect, test } from 'vitest';
import type { Commit, Entry } from './store.ts';
import {
  checkWatchRun,
  type WatchEvent,
  WatchLog,
  type WatchResponse,
  type WatchRun,
} from './watch.ts';

const entry = (
  value: string,
  modRevision: number,
  createRevision: number,
  version: number,
): Entry => ({
  ...{ value, createRevision, modRevision, version, lease: 0n },
});
const log: readonly Commit[] = [
  { revision: 2, changes: [{ type: 'put', key: 'a', entry: entry('one', 2, 2, 1) }] },
  {
    revision: 3,
    changes: [
      { type: 'put', key: 'a', entry: entry('two', 3, 2, 2) },
      { type: 'put', key: 'b', entry: entry('three', 3, 3, 1) },
    ],
  },
  { revision: 4, changes: [{ type: 'put', key: 'other', entry: entry('four', 4, 4, 1) }] },
  { revision: 5, changes: [{ type: 'delete', key: 'a', entry: undefined }] },
];
const watchLog = new WatchLog(log);
const events = (...revisions: number[]): WatchEvent[] =>
  log
    .filter(({ revision }) => revisions.includes(revision))
    .flatMap(({ revision, changes }) => changes.map((change) => ({ ...change, revision })));
const delivery = (...revisions: number[]): WatchResponse => ({
  ...{ kind: 'events', revision: 5, events: events(...revisions) },
});
const run = (responses: WatchResponse[], request: Partial<WatchRun['request']> = {}): WatchRun => ({
  name: 'w',
  request: { startRevision: 2, matches: (key) => key !== 'other', ...request },
  responses,
});
const check = (
  responses: WatchResponse[],
  request: Partial<WatchRun['request']> = {},
  mustReach = 5,
) => checkWatchRun(watchLog, run(responses, request), mustReach);

test('a sound watch has no violations', () => {
  expect(check([delivery(2), delivery(3, 5)])).toEqual([]);
  expect(check([delivery(3), delivery(5)], { startRevision: 3 })).toEqual([]);
  const created = { kind: 'created', revision: 3 } as const;
  expect(check([created, delivery(5)], { startRevision: 0 })).toEqual([]);
});

test('an event left out is found, in the middle and at the end', () => {
  expect(check([delivery(2), delivery(5)])).toEqual([
    'watch w: reliable: revision 5 came, 3 was left out',
  ]);
  expect(check([delivery(2, 3)])).toEqual([
    'watch w: never delivered revision 5, the store is at 5',
  ]);
  expect(check([delivery(2, 3)], {}, 4)).toEqual([]);
});

test('an event before the start of a watch is found', () => {
  expect(check([delivery(2), delivery(3, 5)], { startRevision: 3 })).toEqual([
    'watch w: ordered, unique: revision 2 came late or again',
  ]);
});

test('an event delivered again, and two that swapped places, are found', () => {
  expect(check([delivery(2), delivery(2), delivery(3, 5)])).toEqual([
    'watch w: ordered, unique: revision 2 came late or again',
  ]);
  expect(check([delivery(3), delivery(2), delivery(5)])).toEqual([
    'watch w: reliable: revision 3 came, 2 was left out',
    'watch w: ordered, unique: revision 2 came late or again',
  ]);
});

test('a revision split over two responses is found, unless they are fragments', () => {
  const [first, second] = events(3);
  if (first === undefined || second === undefined) throw new Error('revision 3 has two events');
  const halves = (isFragment: boolean): WatchResponse[] => [
    delivery(2),
    { kind: 'events', revision: 3, events: [first], isFragment },
    { kind: 'events', revision: 3, events: [second] },
    delivery(5),
  ];
  expect(check(halves(true))).toEqual([]);
  expect(check(halves(false))).toEqual([
    'watch w: atomic: revision 3 was split over two responses',
  ]);
});

test('an altered event and an invented one are found', () => {
  const altered = events(2).map((event) => ({ ...event, entry: entry('forged', 2, 2, 1) }));
  expect(check([{ kind: 'events', revision: 2, events: altered }, delivery(3, 5)])).toEqual([
    expect.stringMatching(/^watch w: altered/),
  ]);
  const invented = events(2).map((event) => ({ ...event, revision: 4 }));
  expect(check([delivery(2, 3, 5), { kind: 'events', revision: 5, events: invented }])).toEqual([
    expect.stringMatching(/not in the log/),
  ]);
});

test('an event that the filter excludes is found', () => {
  expect(check([delivery(2), delivery(3)], { wants: 'puts' })).toEqual([]);
  expect(check([delivery(2), delivery(3), delivery(5)], { wants: 'puts' })).toEqual([
    expect.stringMatching(/not in the log/),
  ]);
});

test('a wrong previous entry is found', () => {
  const before = (previous: Entry | undefined) =>
    check(
      [{ kind: 'events', revision: 5, events: events(5).map((event) => ({ ...event, previous })) }],
      { startRevision: 5, withPrevious: true },
    );
  expect(before(entry('two', 3, 2, 2))).toEqual([]);
  expect(before(entry('one', 2, 2, 1))).toEqual([expect.stringMatching(/altered/)]);
});

test('progress ahead of the events is found', () => {
  const progress = (revision: number): WatchResponse => ({ kind: 'progress', revision });
  expect(check([delivery(2, 3), progress(4), delivery(5)])).toEqual([]);
  expect(check([delivery(2, 3), progress(5), delivery(5)])).toEqual([
    'watch w: bookmarkable: progress to 5 before revision 5 was delivered',
  ]);
});

test('a header below its own events, and anything after the end, are found', () => {
  expect(check([{ kind: 'events', revision: 4, events: events(2, 3, 5) }])).toEqual([
    'watch w: the header names revision 4, below its own events',
  ]);
  const cancelled = { kind: 'cancelled', compactRevision: 3, reason: 'compacted' } as const;
  expect(check([cancelled, delivery(2)])).toContain(
    'watch w: a response after the watch was cancelled',
  );
  expect(check([delivery(2, 3), cancelled])).toEqual([]);
  expect(check([delivery(2, 3, 5), cancelled])).toEqual([
    'watch w: cancelled for compaction at 3, yet it needs only 5 and later',
  ]);
});
