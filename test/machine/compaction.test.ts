import { expect, test } from 'vitest';
import { plain } from '../support/plain.ts';
import { SortedState } from '../support/sorted-state.ts';
import { compact, del, everything, FROM_KEY, get, put, txn } from './requests.ts';
import { Rig } from './rig.ts';

const countOf = (rig: Rig, table: string): number =>
  (rig.state as SortedState).dump().filter(([key]) => key[0] === table.charCodeAt(0)).length;

/** How many versions are stored. */
const stored = (rig: Rig): number => countOf(rig, 'h');

const whole = { maxRevisions: 1000, maxBytes: 1e9 };

test('which revisions can be compacted', () => {
  const rig = new Rig();
  rig.apply(put('a'));
  expect(rig.result(compact(-1))).toMatchObject({ code: 'compacted' });
  expect(rig.result(compact(3))).toMatchObject({ code: 'future-revision' });
  expect(rig.result(compact(0))).toEqual({ kind: 'compact', revision: 2 });
  expect(rig.result(compact(0))).toMatchObject({ code: 'compacted' });
  expect(rig.result(compact(2))).toEqual({ kind: 'compact', revision: 2 });
  expect(rig.result(compact(2))).toMatchObject({ code: 'compacted' });
  expect(rig.result(compact(1))).toMatchObject({ code: 'compacted' });
  expect(rig.machine.compactRevision).toBe(2);
});

test('reads are refused below the compacted revision before anything is removed', () => {
  const rig = new Rig();
  for (const value of ['1', '2', '3']) rig.apply(put('a', value));
  rig.apply(compact(3));
  expect(stored(rig)).toBe(3);
  expect(rig.range(get('a', '', { revision: 2 }))).toMatchObject({ code: 'compacted' });
  expect(rig.range(get('a', '', { revision: 3 }))).toMatchObject({ kvs: [{ value: '2' }] });
});

test('the newest version at or below the compacted revision stays', () => {
  const rig = new Rig();
  rig.apply(put('quiet', 'old'));
  for (const value of ['1', '2', '3']) rig.apply(put('busy', value));
  rig.apply(compact(4));
  rig.compactToEnd();
  expect(stored(rig)).toBe(3);
  expect(rig.range(get('a', FROM_KEY, { revision: 4 }))).toMatchObject({
    kvs: [{ value: '2' }, { value: 'old' }],
  });
  expect(rig.range(get('a', FROM_KEY))).toMatchObject({ kvs: [{ value: '3' }, { value: 'old' }] });
});

test('a tombstone below the compacted revision goes with every trace of the key', () => {
  const rig = new Rig();
  rig.apply(put('a'));
  rig.apply(del('a'));
  rig.apply(put('b'));
  rig.apply(compact(4));
  rig.compactToEnd();
  expect(stored(rig)).toBe(1);
  expect(countOf(rig, 'c')).toBe(1);
});

test('a tombstone at the compacted revision stays until the next compaction', () => {
  const rig = new Rig();
  rig.apply(put('a'));
  rig.apply(del('a'));
  rig.apply(compact(3));
  rig.compactToEnd();
  expect(plain(rig.machine.history(rig.state, 3, whole))).toMatchObject([
    { revision: 3, events: [{ kind: 'delete', kv: { key: 'a' } }] },
  ]);
  expect(rig.range(get('a', '', { revision: 3 }))).toMatchObject({ count: 0 });
  rig.apply(put('b'));
  rig.apply(compact(4));
  rig.compactToEnd();
  expect(stored(rig)).toBe(1);
  expect(countOf(rig, 'c')).toBe(1);
});

test('a key written again after its tombstone was compacted starts a new life', () => {
  const rig = new Rig();
  rig.apply(put('a', '1'));
  rig.apply(del('a'));
  rig.apply(put('a', '2'));
  rig.apply(compact(4));
  rig.compactToEnd();
  expect(stored(rig)).toBe(1);
  rig.apply(del('a'));
  rig.apply(put('b'));
  rig.apply(compact(6));
  rig.compactToEnd();
  rig.apply(put('a', '3'));
  expect(rig.range(get('a'))).toMatchObject({ kvs: [{ version: 1, createRevision: 7 }] });
  expect(rig.range(get('a', '', { revision: 6 }))).toMatchObject({ count: 0 });
});

test('the revision never falls, even when the last thing that happened was compacted away', () => {
  const rig = new Rig();
  rig.apply(put('a'));
  rig.apply(del('a'));
  rig.apply(put('b'));
  rig.apply(del('b'));
  rig.apply(compact(5));
  rig.compactToEnd();
  rig.restart();
  expect(rig.machine.revision).toBe(5);
  expect(rig.machine.compactRevision).toBe(5);
  expect(rig.result(put('c'))).toMatchObject({ revision: 6 });
});

test('a compaction cut short by a restart is taken up where it stopped', () => {
  const rig = new Rig(new SortedState(), { compactionStepRecords: 1 });
  for (let n = 0; n < 10; n += 1) rig.apply(put('a', `${n}`));
  rig.apply(compact(11));
  for (let n = 0; n < 4; n += 1) expect(rig.compactionStep()).toBe(false);
  const left = stored(rig);
  rig.restart();
  expect(rig.machine.compactRevision).toBe(11);
  expect(rig.machine.physicallyCompactedRevision).toBe(-1);
  expect(rig.range(get('a', '', { revision: 10 }))).toMatchObject({ code: 'compacted' });
  expect(stored(rig)).toBe(left);
  rig.compactToEnd();
  expect(stored(rig)).toBe(1);
  expect(rig.machine.physicallyCompactedRevision).toBe(11);
  expect(rig.compactionStep()).toBe(true);
});

test('a step costs what was written since the last compaction, not the number of keys', () => {
  const rig = new Rig(new SortedState(), { compactionStepRecords: 5 });
  for (let n = 0; n < 500; n += 1) rig.apply(put(`k${n}`));
  rig.apply(compact(rig.machine.revision));
  rig.compactToEnd();
  for (let n = 0; n < 10; n += 1) rig.apply(put('k1', `${n}`));
  rig.apply(compact(rig.machine.revision));
  let steps = 1;
  while (!rig.compactionStep()) steps += 1;
  expect(steps).toBeLessThanOrEqual(4);
  expect(stored(rig)).toBe(500);
});

test('a newer compaction takes over from one that is under way', () => {
  for (let stepsBefore = 0; stepsBefore < 8; stepsBefore += 1) {
    const rig = new Rig(new SortedState(), { compactionStepRecords: 1 });
    rig.apply(put('a'));
    rig.apply(put('b'));
    rig.apply(del('a', FROM_KEY)); // Two tombstones at the first compacted revision.
    rig.apply(put('c', '1'));
    rig.apply(put('c', '2'));
    rig.apply(compact(4));
    for (let n = 0; n < stepsBefore; n += 1) rig.compactionStep();
    rig.apply(compact(6));
    rig.compactToEnd();
    expect(stored(rig)).toBe(1);
    expect(countOf(rig, 'c')).toBe(1);
    expect(rig.machine.physicallyCompactedRevision).toBe(6);
  }
});

test('everything at the compacted revision stays readable as history', () => {
  const rig = new Rig();
  rig.apply(txn([], [put('a', '1'), del('a', FROM_KEY), put('b')]));
  rig.apply(compact(2));
  const before = plain(rig.machine.history(rig.state, 2, whole));
  rig.compactToEnd();
  expect(plain(rig.machine.history(rig.state, 2, whole))).toEqual(before);
});

test('the previous value is known down to the compacted revision, whatever is still stored', () => {
  const rig = new Rig();
  rig.apply(put('a', '1'));
  rig.apply(put('a', '2'));
  rig.apply(put('a', '3'));
  rig.apply(compact(3));
  const previous = () =>
    rig.machine
      .history(rig.state, 3, whole)
      .flatMap(({ events }) => events)
      .map(({ kv }) => plain(rig.machine.previous(rig.state, kv)));
  const expected = [undefined, expect.objectContaining({ value: '2' })];
  expect(previous()).toEqual(expected);
  rig.compactToEnd();
  expect(previous()).toEqual(expected);
});

test('compaction leaves leases and their keys alone', () => {
  const rig = new Rig();
  rig.apply({ kind: 'lease-grant', id: 1n, ttlSeconds: 60 });
  for (let n = 0; n < 5; n += 1) rig.apply(put('a', `${n}`, { lease: 1n }));
  rig.apply(compact(6));
  rig.compactToEnd();
  rig.apply({ kind: 'lease-revoke', id: 1n });
  expect(rig.range(everything)).toMatchObject({ count: 0 });
});
