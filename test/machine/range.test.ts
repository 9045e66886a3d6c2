import { expect, test } from 'vitest';
import { limits } from '../../server/limits.ts';
import type { KeyValue, RangeRequest } from '../../server/mvcc/types.ts';
import type { StateReader } from '../../server/ports.ts';
import { plain } from '../support/plain.ts';
import { compact, del, everything, FROM_KEY, get, grant, put } from './requests.ts';
import { Rig } from './rig.ts';

type Options = Partial<RangeRequest>;

/** a, b, c, d at revisions 2 to 5 with values 3, 2, 1, 0; then a again at 6. */
function filled(): Rig {
  const rig = new Rig();
  for (const [key, value] of ['a3', 'b2', 'c1', 'd0'].map((pair) => [...pair])) {
    rig.apply(put(key ?? '', value));
  }
  rig.apply(put('a', '3'));
  return rig;
}

function keysOf(rig: Rig, options: Options): string {
  const result = rig.range(get('a', FROM_KEY, options)) as { kvs: { key: string }[] };
  return result.kvs.map(({ key }) => key).join('');
}

test('limit, more and count', () => {
  const rig = filled();
  expect(rig.range(get('a', FROM_KEY, { limit: 2 }))).toMatchObject({ more: true, count: 4 });
  expect(keysOf(rig, { limit: 2 })).toBe('ab');
  expect(rig.range(get('a', FROM_KEY, { limit: 4 }))).toMatchObject({ more: false, count: 4 });
  expect(keysOf(rig, { limit: -1 })).toBe('abcd');
});

test('the count ignores limit and filters', () => {
  const rig = filled();
  expect(rig.range(get('a', FROM_KEY, { minModRevision: 5, limit: 1 }))).toMatchObject({
    kvs: [{ key: 'a' }],
    more: true,
    count: 4,
  });
});

test('count only has no keys and never more', () => {
  const rig = filled();
  expect(rig.range(get('a', FROM_KEY, { countOnly: true, limit: 1 }))).toEqual({
    kind: 'range',
    kvs: [],
    more: false,
    count: 4,
    revision: 6,
  });
});

test('keys only has everything but the value', () => {
  const rig = new Rig();
  rig.apply(grant(5n));
  rig.apply(put('a', 'v', { lease: 5n }));
  expect(rig.range(get('a', '', { keysOnly: true }))).toMatchObject({
    kvs: [{ key: 'a', value: '', createRevision: 2, modRevision: 2, version: 1, lease: 5n }],
  });
});

test('sorting', () => {
  const rig = filled();
  expect(keysOf(rig, { sortOrder: 'descend' })).toBe('dcba');
  expect(keysOf(rig, { sortOrder: 'ascend', sortTarget: 'value' })).toBe('dcba');
  expect(keysOf(rig, { sortOrder: 'descend', sortTarget: 'mod' })).toBe('adcb');
  expect(keysOf(rig, { sortOrder: 'descend', sortTarget: 'create' })).toBe('dcba');
  expect(keysOf(rig, { sortOrder: 'descend', sortTarget: 'version', limit: 1 })).toBe('a');
  expect(keysOf(rig, { sortOrder: 'ascend', sortTarget: 'value', keysOnly: true })).toBe('dcba');
});

test('a sort target without a sort order sorts what the limit left', () => {
  const rig = filled();
  expect(keysOf(rig, { sortTarget: 'value' })).toBe('dcba');
  expect(keysOf(rig, { sortTarget: 'value', limit: 2 })).toBe('cb');
  expect(keysOf(rig, { sortTarget: 'value', limit: 2, sortOrder: 'ascend' })).toBe('dc');
});

test('filters by revision', () => {
  const rig = filled();
  expect(keysOf(rig, { minModRevision: 5 })).toBe('ad');
  expect(keysOf(rig, { maxModRevision: 4 })).toBe('bc');
  expect(keysOf(rig, { minCreateRevision: 3, maxCreateRevision: 4 })).toBe('bc');
});

test('older revisions', () => {
  const rig = filled();
  rig.apply(del('b'));
  rig.apply(put('b', 'again'));
  expect(keysOf(rig, { revision: 3 })).toBe('ab');
  expect(keysOf(rig, { revision: 7 })).toBe('acd');
  expect(rig.range(get('b', '', { revision: 6 }))).toMatchObject({
    kvs: [{ value: '2', modRevision: 3 }],
    revision: 8,
  });
  expect(rig.range(get('a', FROM_KEY, { revision: 4, countOnly: true }))).toMatchObject({
    count: 3,
  });
});

test('which revisions can be read', () => {
  const rig = filled();
  expect(keysOf(rig, { revision: -5 })).toBe('abcd');
  expect(rig.range(get('a', '', { revision: 7 }))).toEqual({
    kind: 'fault',
    code: 'future-revision',
    revision: 6,
  });
  rig.apply(compact(4));
  expect(keysOf(rig, { revision: 4 })).toBe('abc');
  expect(rig.range(get('a', '', { revision: 3 }))).toMatchObject({ code: 'compacted' });
});

const MANY = limits.readSliceKeys * 2 + 10;

function manyKeys(): Rig {
  const rig = new Rig();
  for (let n = 0; n < MANY; n += 1) rig.apply(put(`k${String(n).padStart(6, '0')}`, `${n}`));
  return rig;
}

const readsOfMany = [
  {},
  { keysOnly: true },
  { sortTarget: 'value' },
  { countOnly: true },
  { limit: 10 },
  { limit: 600 },
  { limit: 600, minModRevision: 3 },
  { sortOrder: 'descend' },
] as const;

/** Counts a few hundred keys at a time. */
const countingInSteps = (state: StateReader): StateReader => ({
  get: (key) => state.get(key),
  scan: (start, end, options) => state.scan(start, end, options),
  count: (start, end) => state.count(start, end, 300),
});

/** The result with what a sink got, and how much it had when the read paused. */
function gather(rig: Rig, request: RangeRequest, withSink: boolean, onPause: () => void) {
  const kvs: KeyValue[] = [];
  const sink = withSink ? { add: (kv: KeyValue) => void kvs.push(kv) } : undefined;
  const read = rig.machine.range(countingInSteps(rig.state), request, sink);
  const atPauses: number[] = [];
  for (;;) {
    const step = read.next();
    if (step.done) {
      const result = withSink ? { ...step.value, kvs } : step.value;
      return { result: plain(result), atPauses };
    }
    atPauses.push(kvs.length);
    onPause();
  }
}

test('a long read pauses, and what is written meanwhile does not show', () => {
  for (const withSink of [false, true]) {
    for (const options of readsOfMany) {
      const rig = manyKeys();
      const request = get('k', 'l', options);
      const expected = rig.range(request);
      let written = 0;
      const { result, atPauses } = gather(rig, request, withSink, () => {
        // One before the reader, one far after it, a new one, and a deletion.
        rig.apply(put('k000001', `changed ${written++}`));
        rig.apply(put(`k${String(MANY - 1).padStart(6, '0')}`, 'changed'));
        rig.apply(put(`k000600${written}`, 'new'));
        rig.apply(del(`k${String(MANY - 1 - written).padStart(6, '0')}`));
      });
      expect(result).toEqual(expected);
      expect(atPauses.length).toBeGreaterThanOrEqual(2);
    }
  }
});

test('a sink gets what is in key order a slice at a time, and what is sorted at the end', () => {
  const rig = manyKeys();
  const most = (options: Options) =>
    Math.max(...gather(rig, get('k', 'l', options), true, () => {}).atPauses);
  expect(most({})).toBe(2 * limits.readSliceKeys);
  expect(most({ limit: MANY - 5 })).toBe(2 * limits.readSliceKeys);
  expect(most({ keysOnly: true })).toBe(2 * limits.readSliceKeys);
  expect(most({ sortOrder: 'descend' })).toBe(0);
  expect(most({ sortTarget: 'mod' })).toBe(0);
});

test('what a limit leaves out is not read, whatever is written meanwhile', () => {
  const rig = manyKeys();
  let keysRead = 0;
  const reader: StateReader = {
    get: (key) => rig.state.get(key),
    scan: (start, end, options) => {
      const pairs = rig.state.scan(start, end, options);
      keysRead += pairs.length;
      return pairs;
    },
    count: (start, end, step) => rig.state.count(start, end, step),
  };
  const listed: string[] = [];
  const sink = { add: ({ key }: KeyValue) => listed.push(Buffer.from(key).toString()) };
  const read = rig.machine.range(reader, get('k', 'l', { limit: 100 }), sink);
  let step = read.next();
  while (!step.done) {
    rig.apply(put('k000500', 'changed'));
    rig.apply(del(`k00090${keysRead % 10}`));
    step = read.next();
  }
  expect(step.value).toMatchObject({ more: true, count: MANY });
  expect(listed).toHaveLength(100);
  expect(keysRead).toBeLessThan(200);
});

test('a long read ends when compaction passes its revision', () => {
  const cases = readsOfMany.flatMap((options) => [
    { options, sink: undefined },
    { options, sink: { add: () => {} } },
  ]);
  for (const { options, sink } of cases) {
    const rig = manyKeys();
    for (let pausesBefore = 1; ; pausesBefore += 1) {
      const read = rig.machine.range(countingInSteps(rig.state), get('k', 'l', options), sink);
      let step = read.next();
      for (let pause = 1; pause < pausesBefore && !step.done; pause += 1) {
        rig.apply(put('a'));
        step = read.next();
      }
      if (step.done) {
        expect(pausesBefore).toBeGreaterThan(2);
        break;
      }
      rig.apply(put('a'));
      rig.apply(compact(rig.machine.revision));
      rig.compactToEnd();
      for (step = read.next(); !step.done; ) step = read.next();
      expect(step.value).toMatchObject({ kind: 'fault', code: 'compacted' });
    }
  }
});

test('a long read survives a compaction to its own revision', () => {
  const rig = manyKeys();
  const expected = rig.range(everything);
  const read = rig.machine.range(rig.state, everything);
  read.next();
  rig.apply(compact(rig.machine.revision));
  rig.apply(put('k000000', 'changed'));
  rig.apply(del('k000900'));
  rig.compactToEnd();
  let step = read.next();
  while (!step.done) step = read.next();
  expect(plain(step.value)).toEqual(expected);
});
