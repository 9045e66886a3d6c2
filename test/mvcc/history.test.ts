import { expect, test } from 'vitest';
import { limits } from '../../server/limits.ts';
import { del, FROM_KEY, put, txn } from '../machine/requests.ts';
import { Rig } from '../machine/rig.ts';
import { plain } from '../support/plain.ts';

const revisionsOf = (rig: Rig, from: number, maxRevisions: number, maxBytes: number): number[] =>
  rig.machine.history(rig.state, from, { maxRevisions, maxBytes }).map(({ revision }) => revision);

test('revisions are whole, in order, and bounded in number', () => {
  const rig = new Rig();
  for (let n = 0; n < 30; n += 1) rig.apply(txn([], [put('a', `${n}`), put('b'), put('c')]));
  expect(revisionsOf(rig, 2, 4, 1e9)).toEqual([2, 3, 4, 5]);
  expect(revisionsOf(rig, 29, 1000, 1e9)).toEqual([29, 30, 31]);
  expect(revisionsOf(rig, 32, 10, 1e9)).toEqual([]);
  const history = rig.machine.history(rig.state, 2, { maxRevisions: 30, maxBytes: 1e9 });
  for (const { revision, events } of history) {
    expect(events.map(({ kv }) => kv.modRevision)).toEqual([revision, revision, revision]);
  }
});

test('bytes bound further revisions, never the first', () => {
  const rig = new Rig();
  for (let n = 0; n < 10; n += 1) rig.apply(put('a', 'x'.repeat(1000)));
  expect(revisionsOf(rig, 2, 100, 1)).toEqual([2]);
  expect(revisionsOf(rig, 2, 100, 2500)).toEqual([2, 3, 4]);
});

test('a revision larger than a piece of a scan is whole', () => {
  const rig = new Rig();
  const count = limits.readSliceKeys + 100;
  for (let n = 0; n < count; n += 1) rig.apply(put(`k${n}`));
  rig.apply(del('k', 'l'));
  const [last, ...more] = rig.machine.history(rig.state, count + 2, {
    maxRevisions: 10,
    maxBytes: 1,
  });
  expect(more).toEqual([]);
  expect(last?.events.length).toBe(count);
  expect(last?.events.every(({ kind }) => kind === 'delete')).toBe(true);
});

test('what an event replaced, from the live event and from history alike', () => {
  const rig = new Rig();
  const live = [put('a', '1'), put('a', '2'), del('a'), put('a', '3')].flatMap(
    (command) => rig.apply(command).events,
  );
  const past = rig.machine
    .history(rig.state, 2, { maxRevisions: 10, maxBytes: 1e9 })
    .flatMap(({ events }) => events);
  for (const events of [live, past]) {
    const values = events.map(({ kv }) => plain(rig.machine.previous(rig.state, kv)));
    expect(values).toMatchObject([undefined, { value: '1' }, { value: '2' }, undefined]);
  }
});

test('a key deleted and created again in one revision was created: nothing was before', () => {
  const rig = new Rig();
  rig.apply(put('a', '1'));
  const live = rig.apply(txn([], [del('a', FROM_KEY), put('a', '2')])).events;
  const past = rig.machine.history(rig.state, 3, { maxRevisions: 1, maxBytes: 1 })[0]?.events ?? [];
  for (const events of [live, past]) {
    const values = events.map(({ kv }) => plain(rig.machine.previous(rig.state, kv)));
    expect(values).toMatchObject([{ value: '1' }, undefined]);
  }
});
