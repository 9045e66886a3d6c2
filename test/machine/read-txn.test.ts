/** Transactions that only read, and take long. */
import { expect, test } from 'vitest';
import { limits } from '../../server/limits.ts';
import type { TxnRequest } from '../../server/mvcc/types.ts';
import { plain } from '../support/plain.ts';
import { compact, del, get, put, txn, whenValue } from './requests.ts';
import { Rig } from './rig.ts';

const MANY = limits.readSliceKeys * 2 + 10;
const nameOf = (n: number): string => `k${String(n).padStart(6, '0')}`;

function manyKeys(): Rig {
  const rig = new Rig();
  for (let n = 0; n < MANY; n += 1) rig.apply(put(nameOf(n), `${n}`));
  rig.apply(put('single', 'before'));
  rig.apply(put('single again', 'before'));
  return rig;
}

const listing = get('k', 'l', { sortTarget: 'create', sortOrder: 'descend', limit: 3 });
const atFive = get('k', 'l', { revision: 5 });
const everyKind: TxnRequest = txn(
  [whenValue('single', 'equal', 'before')],
  [
    get('k', 'l'),
    get('single'),
    get('single again'),
    get('none'),
    get('none', 'nonf'),
    get('k', 'l', { countOnly: true }),
    atFive,
    listing,
  ],
  [get('failed')],
);

/** Reads while `meanwhile` happens in every pause. */
function readWith(rig: Rig, request: TxnRequest, meanwhile: (pause: number) => void) {
  const read = rig.machine.readTxn(rig.state, request);
  for (let pauses = 0; ; pauses += 1) {
    const step = read.next();
    if (step.done === true) return { pauses, result: plain(step.value) };
    meanwhile(pauses);
  }
}

/** What every range of `everyKind` would show. */
function change(rig: Rig, count: number): void {
  rig.apply(put(nameOf(1), `changed ${count}`));
  rig.apply(put(nameOf(MANY - 1), 'changed'));
  rig.apply(put(`${nameOf(600)}${count}`, 'new'));
  rig.apply(del(nameOf(MANY - 2 - count)));
  rig.apply(put('single', 'changed'));
  rig.apply(del('single again'));
  rig.apply(put('none', 'there is one'));
}

test('a long transaction pauses, and nothing that is written meanwhile shows in it', () => {
  const rig = manyKeys();
  const expected = rig.readTxn(everyKind);
  const { pauses, result } = readWith(rig, everyKind, (pause) => change(rig, pause));
  expect(pauses).toBeGreaterThanOrEqual(6);
  expect(result).toEqual(expected);
});

test('many ranges that are short by themselves pause together', () => {
  const rig = manyKeys();
  const half = get(nameOf(0), nameOf(limits.readSliceKeys / 2));
  const request = txn([], [half, half, half, half, half]);
  const expected = rig.readTxn(request);
  const { pauses, result } = readWith(rig, request, (pause) => change(rig, pause));
  expect(pauses).toBe(2);
  expect(result).toEqual(expected);
  expect(readWith(rig, txn([], [half]), () => undefined).pauses).toBe(0);
});

test('nested transactions pause together, and so do ranges that are counted', () => {
  const rig = manyKeys();
  const half = get(nameOf(0), nameOf(limits.readSliceKeys / 2));
  const nested = txn(
    [],
    [half, half, half, half, half].map((one) => txn([], [one])),
  );
  const count = get('k', 'l', { countOnly: true });
  const first = get('k', 'l', { limit: 1 });
  const counts = txn(
    [],
    Array.from({ length: 60 }).flatMap(() => [count, first]),
  );
  for (const request of [nested, counts]) {
    const expected = rig.readTxn(request);
    expect(readWith(rig, request, () => undefined)).toEqual({ pauses: 2, result: expected });
    const { result } = readWith(rig, request, (pause) => change(rig, pause));
    expect(result).toEqual(expected);
  }
});

test('a compaction that passes what was the newest revision lets it begin anew', () => {
  for (let compactAt = 0; compactAt < 6; compactAt += 1) {
    const rig = manyKeys();
    const request = { ...everyKind, success: everyKind.success.filter((one) => one !== atFive) };
    const { result } = readWith(rig, request, (pause) => {
      if (pause !== compactAt) return;
      change(rig, pause);
      rig.apply(compact(rig.machine.revision));
    });
    expect(result).toEqual(rig.readTxn(request));
    expect(result).toMatchObject({ succeeded: false, revision: rig.machine.revision });
  }
});

test('a compaction that passes a revision that was asked for ends it', () => {
  const rig = manyKeys();
  const { result } = readWith(rig, everyKind, (pause) => {
    if (pause === 0) rig.apply(compact(6));
  });
  expect(result).toMatchObject({ kind: 'fault', code: 'compacted' });
});
