/** What every `State` must do. Run against each implementation by `state.test.ts`. */
import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { LogPosition, State, Write } from '../../server/ports.ts';
import { SnapshotTransferError } from '../../server/storage/errors.ts';
import type { ReceivedSnapshot } from '../../server/storage/transfer.ts';

export type StateUnderTest = {
  readonly state: State;
  /** Closes cleanly and opens again. */
  reopen(): Promise<StateUnderTest>;
  /** Loses power and opens again, where that can be done in one process. */
  crash?(): Promise<StateUnderTest>;
  /** What another member with these contents would have sent. `announced`: when it lies about it. */
  received(
    applied: LogPosition,
    writes: readonly Write[],
    announced?: LogPosition,
  ): Promise<ReceivedSnapshot>;
  dispose(): Promise<void>;
};

const bytes = (text: string): Buffer => Buffer.from(text, 'latin1');
const put = (key: Uint8Array, value: Uint8Array): Write => ({ kind: 'put', key, value });
const remove = (key: Uint8Array): Write => ({ kind: 'remove', key });
const filled = (length: number, byte: number): Buffer => Buffer.alloc(length, byte);

/** Around the longest key that LMDB takes, and around the length from which keys are shortened. */
const PREFIX = filled(1_900, 0x61);
const after = (prefix: Buffer, text: string): Buffer => Buffer.concat([prefix, bytes(text)]);
const AWKWARD_KEYS: readonly Buffer[] = [
  Buffer.alloc(0),
  ...[1, 2, 3].flatMap((length) => [filled(length, 0x00), filled(length, 0xff)]),
  ...[1_898, 1_899, 1_900, 1_901, 1_977, 1_978, 1_979, 2_500].flatMap((length) => [
    filled(length, 0x00),
    filled(length, 0x61),
    filled(length, 0xff),
  ]),
  after(PREFIX, '\x00'),
  after(PREFIX, '\xff'),
  after(PREFIX, '\xff\xff'),
  after(PREFIX, 'a\x00'),
  after(PREFIX, 'b'),
  after(PREFIX.subarray(0, 1_899), 'b'),
  after(PREFIX.subarray(0, 1_899), 'bc'),
  after(PREFIX.subarray(0, 1_899), '`'),
  // Around the first bytes of tables, which may be stored apart.
  ...['c', 'c\x00', 'c\xff', 'd', 'd\x00', 'g', 'h', 'h\x00', 'i', 's', 't'].map(bytes),
  filled(1_901, 0x68),
];

type Model = Map<string, Buffer>;

const keyArbitrary = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom(...AWKWARD_KEYS) },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 2 }).map((array) => Buffer.from(array)) },
);
const writeArbitrary: fc.Arbitrary<Write> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('put' as const),
      key: keyArbitrary,
      value: fc.uint8Array({ maxLength: 20 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('remove' as const), key: keyArbitrary }) },
);
const scanArbitrary = fc.record({
  start: keyArbitrary,
  end: fc.option(keyArbitrary, { nil: undefined }),
  limit: fc.oneof(fc.nat({ max: 5 }), fc.constant(1_000)),
  reverse: fc.boolean(),
});
const countArbitrary = fc.record({
  start: keyArbitrary,
  end: fc.option(keyArbitrary, { nil: undefined }),
  step: fc.oneof(fc.integer({ min: 1, max: 5 }), fc.constant(1_000)),
});
type Counting = {
  readonly start: Buffer;
  readonly end: Buffer | undefined;
  readonly step: number;
};
type Step =
  /** `forEntry`: otherwise the index stays, as for the removal of compacted garbage. */
  | { kind: 'apply'; forEntry: boolean; writes: readonly Write[] }
  | { kind: 'get'; key: Buffer }
  | ({ kind: 'scan' } & {
      start: Buffer;
      end: Buffer | undefined;
      limit: number;
      reverse: boolean;
    })
  | ({ kind: 'count' } & Counting)
  | { kind: 'install'; ahead: number; writes: readonly Write[] }
  | { kind: 'flush' | 'pause' | 'reopen' | 'crash' };
const stepArbitrary: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('apply' as const),
      forEntry: fc.integer({ min: 0, max: 3 }).map((number) => number > 0),
      writes: fc.array(writeArbitrary, { maxLength: 6 }),
    }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('get' as const), key: keyArbitrary }) },
  { weight: 6, arbitrary: scanArbitrary.map((scan) => ({ kind: 'scan' as const, ...scan })) },
  { weight: 4, arbitrary: countArbitrary.map((count) => ({ kind: 'count' as const, ...count })) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('install' as const),
      ahead: fc.nat({ max: 3 }),
      writes: fc.array(writeArbitrary, { maxLength: 6 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.constantFrom<Step>(
      { kind: 'flush' },
      { kind: 'pause' },
      { kind: 'reopen' },
      { kind: 'crash' },
    ),
  },
);

const nameOf = (key: Uint8Array): string => Buffer.from(key).toString('latin1');

function modelScan(
  model: Model,
  scan: { start: Buffer; end: Buffer | undefined; limit: number; reverse: boolean },
): [Buffer, Buffer][] {
  const { start, end, limit, reverse } = scan;
  const rows = [...model]
    .map(([key, value]): [Buffer, Buffer] => [bytes(key), value])
    .filter(([key]) => Buffer.compare(key, start) >= 0)
    .filter(([key]) => end === undefined || Buffer.compare(key, end) < 0)
    .sort(([left], [right]) => Buffer.compare(left, right));
  if (reverse) rows.reverse();
  return rows.slice(0, limit);
}

/** Counts in steps, each of which must say how many keys lie before the next. */
function countInSteps(state: State, model: Model, { start, end, step }: Counting): number {
  let total = 0;
  let from: Uint8Array = start;
  for (;;) {
    const { count, next } = state.count(from, end, step);
    const upTo = next === undefined ? end : Buffer.from(next);
    const all = { start: Buffer.from(from), end: upTo, limit: 10_000, reverse: false };
    expect(count).toBe(modelScan(model, all).length);
    total += count;
    if (next === undefined) return total;
    expect(Buffer.compare(next, from)).toBeGreaterThan(0);
    from = next;
  }
}

function applied(model: Model, writes: readonly Write[]): Model {
  const next = new Map(model);
  for (const write of writes) {
    if (write.kind === 'put') next.set(nameOf(write.key), Buffer.from(write.value));
    else next.delete(nameOf(write.key));
  }
  return next;
}

const ALL = { start: Buffer.alloc(0), end: undefined, limit: 10_000, reverse: false };

const plain = (rows: readonly (readonly [Uint8Array, Uint8Array])[]): string[] =>
  rows.map(([key, value]) => `${Buffer.from(key).toString('hex')}=${nameOf(value)}`);

async function runSteps(open: () => Promise<StateUnderTest>, steps: readonly Step[]) {
  let current = await open();
  try {
    let index = current.state.appliedIndex;
    let versions: { index: number; content: Model }[] = [{ index, content: new Map() }];
    const modelNow = (): Model => versions.at(-1)?.content ?? new Map();
    for (const step of steps) {
      const { state } = current;
      if (step.kind === 'apply') {
        if (step.forEntry) index += 1;
        versions.push({ index, content: applied(modelNow(), step.writes) });
        state.apply(index, step.writes, index);
        expect(state.applied).toEqual({ index, term: index });
      } else if (step.kind === 'install') {
        index += step.ahead;
        const flushed = state.flush();
        await state.install(await current.received({ index, term: index }, step.writes));
        await flushed;
        versions = [{ index, content: applied(new Map(), step.writes) }];
        expect(state.applied).toEqual({ index, term: index });
        expect(state.durableIndex).toBe(index);
        expect(state.backlogBytes).toBe(0);
      } else if (step.kind === 'get') {
        const found = state.get(step.key);
        const expected = modelNow().get(nameOf(step.key));
        expect(found === undefined ? undefined : nameOf(found)).toBe(
          expected === undefined ? undefined : nameOf(expected),
        );
      } else if (step.kind === 'scan') {
        const { start, end, limit, reverse } = step;
        const found = state.scan(start, end, { limit, reverse });
        expect(plain(found)).toEqual(plain(modelScan(modelNow(), step)));
      } else if (step.kind === 'count') {
        const all = modelScan(modelNow(), { ...step, limit: 10_000, reverse: false });
        expect(countInSteps(state, modelNow(), step)).toBe(all.length);
      } else if (step.kind === 'flush') {
        await state.flush();
        expect(state.durableIndex).toBe(index);
        expect(state.backlogBytes).toBe(0);
      } else if (step.kind === 'pause') {
        await new Promise((resolve) => setImmediate(resolve));
      } else if (step.kind === 'reopen') {
        current = await current.reopen();
        expect(current.state.applied).toEqual({ index, term: index });
        expect(current.state.durableIndex).toBe(index);
      } else if (current.crash !== undefined) {
        const durable = state.durableIndex;
        current = await current.crash();
        index = current.state.appliedIndex;
        expect(index).toBe(durable);
        const survived = plain(current.state.scan(ALL.start, ALL.end, ALL)).join();
        const match = versions.findLastIndex(
          (version) =>
            version.index === index && plain(modelScan(version.content, ALL)).join() === survived,
        );
        expect(match).toBeGreaterThanOrEqual(0);
        versions = versions.slice(0, match + 1);
      }
    }
    expect(plain(current.state.scan(ALL.start, ALL.end, ALL))).toEqual(
      plain(modelScan(modelNow(), ALL)),
    );
  } finally {
    await current.dispose();
  }
}

export function describeState(
  name: string,
  open: () => Promise<StateUnderTest>,
  options: { readonly runs: number },
): void {
  describe(name, () => {
    test('behaves like a sorted map whatever the sequence of operations', async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(stepArbitrary, { maxLength: 40, size: 'max' }), (steps) =>
          runSteps(open, steps),
        ),
        { numRuns: options.runs },
      );
    });

    describe('with one state', () => {
      let current: StateUnderTest;
      beforeEach(async () => {
        current = await open();
      });
      afterEach(() => current.dispose());

      test('starts empty at index 0', () => {
        expect(current.state.appliedIndex).toBe(0);
        expect(current.state.durableIndex).toBe(0);
        expect(current.state.scan(Buffer.alloc(0), undefined, { limit: 10 })).toEqual([]);
      });

      test('the last write of an apply to a key counts', () => {
        const key = bytes('k');
        current.state.apply(1, [put(key, bytes('a')), remove(key), put(key, bytes('b'))]);
        expect(nameOf(current.state.get(key) ?? bytes('nothing'))).toBe('b');
      });

      test('an apply without writes moves the index, also across a restart', async () => {
        current.state.apply(7, []);
        current = await current.reopen();
        expect(current.state.appliedIndex).toBe(7);
      });

      test('a scan is a copy that later writes do not change', async () => {
        const { state } = current;
        state.apply(1, [put(bytes('a'), bytes('1')), put(bytes('b'), bytes('2'))]);
        await state.flush();
        const rows = state.scan(bytes('a'), undefined, { limit: 10 });
        const value = state.get(bytes('a'));
        state.apply(2, [put(bytes('a'), bytes('changed')), remove(bytes('b'))]);
        await state.flush();
        state.scan(bytes('a'), undefined, { limit: 10 });
        expect(plain(rows)).toEqual(['61=1', '62=2']);
        expect(nameOf(value ?? bytes(''))).toBe('1');
      });

      test('keys may be reused once apply has returned', async () => {
        const key = bytes('key');
        current.state.apply(1, [put(key, bytes('value'))]);
        key.fill(0);
        expect(nameOf(current.state.get(bytes('key')) ?? bytes(''))).toBe('value');
        current = await current.reopen();
        expect(nameOf(current.state.get(bytes('key')) ?? bytes(''))).toBe('value');
      });

      test('keeps empty values, wherever their bytes come from', async () => {
        const sources: Uint8Array[] = [
          Buffer.alloc(0),
          new Uint8Array(0),
          bytes('xy').subarray(1, 1),
        ];
        sources.push(new Uint8Array(new ArrayBuffer(0)), filled(8_192, 1).subarray(4_096, 4_096));
        const keys = sources.map((_, number) => bytes(`empty-${number}`));
        current.state.apply(
          1,
          sources.map((value, number) => put(keys[number] ?? bytes(''), value)),
        );
        for (const _ of ['in memory', 'on disk']) {
          for (const key of keys) expect(current.state.get(key)?.length).toBe(0);
          const rows = current.state.scan(bytes('e'), undefined, { limit: 10 });
          expect(rows.map(([, value]) => value.length)).toEqual(keys.map(() => 0));
          current = await current.reopen();
        }
      });

      test('takes keys and values of 1.5 MiB', async () => {
        const keys = [filled(1.5 * 1024 * 1024, 0xff), filled(1.5 * 1024 * 1024 - 1, 0xff)];
        const value = filled(1.5 * 1024 * 1024, 0x07);
        current.state.apply(
          1,
          keys.map((key) => put(key, value)),
        );
        for (const _ of ['in memory', 'on disk']) {
          for (const key of keys) expect(current.state.get(key)?.length).toBe(value.length);
          const rows = current.state.scan(bytes('\xff'), undefined, { limit: 5 });
          expect(rows.map(([key]) => key.length)).toEqual(keys.map((key) => key.length).reverse());
          const reversed = current.state.scan(bytes('\xff'), keys[0], { limit: 5, reverse: true });
          expect(reversed.map(([key]) => key.length)).toEqual([keys[1]?.length]);
          current = await current.reopen();
        }
      });

      test('scans with limits across memory and disk, in both directions', async () => {
        const { state } = current;
        const stored = AWKWARD_KEYS.filter((_, position) => position % 2 === 0);
        const recent = AWKWARD_KEYS.filter((_, position) => position % 2 === 1);
        const gone = stored.slice(0, 3);
        state.apply(
          1,
          stored.map((key) => put(key, bytes('stored'))),
        );
        await state.flush();
        state.apply(2, [...recent.map((key) => put(key, bytes('recent'))), ...gone.map(remove)]);
        const model: Model = new Map();
        for (const key of stored.slice(3)) model.set(nameOf(key), bytes('stored'));
        for (const key of recent) model.set(nameOf(key), bytes('recent'));
        for (const start of AWKWARD_KEYS) {
          for (const end of [...AWKWARD_KEYS, undefined]) {
            for (const reverse of [false, true]) {
              for (const limit of [1, 3, 100]) {
                const scan = { start, end, limit, reverse };
                expect(plain(state.scan(start, end, { limit, reverse }))).toEqual(
                  plain(modelScan(model, scan)),
                );
              }
            }
            countInSteps(state, model, { start, end, step: 3 });
          }
        }
      });

      test('counts thousands of keys across memory and disk', async () => {
        const { state } = current;
        const keys = Array.from({ length: 6_000 }, (_, number) => bytes(`k${100_000 + number}`));
        const long = ['x', 'y', 'z'].map((end) => after(bytes('k101000'), end.repeat(1_900)));
        const stored = [...keys.filter((_, number) => number % 3 > 0), ...long.slice(1)];
        const recent = [...keys.filter((_, number) => number % 3 < 2), ...long.slice(0, 1)];
        const gone = keys.filter((_, number) => number % 5 === 0);
        const writes = [...recent.map((key) => put(key, bytes('recent'))), ...gone.map(remove)];
        const model: Model = new Map();
        for (const key of [...stored, ...recent]) model.set(nameOf(key), bytes(''));
        for (const key of gone) model.delete(nameOf(key));
        state.apply(
          1,
          stored.map((key) => put(key, bytes('stored'))),
        );
        await state.flush();
        state.apply(2, writes);
        for (const _ of ['in memory', 'on disk']) {
          for (const step of [900, 100_000]) {
            for (const [start, end] of [
              [keys[0], keys[5_999]],
              [keys[7], keys[2_222]],
              [long[0], keys[1_100]],
              [bytes('k'), undefined],
            ]) {
              countInSteps(state, model, { start: start ?? bytes(''), end, step });
            }
          }
          await state.flush();
        }
      });

      test('counts live bytes, and fewer after removals', async () => {
        const { state } = current;
        const keys = Array.from({ length: 200 }, (_, number) => bytes(`key-${number}`));
        state.apply(
          1,
          keys.map((key) => put(key, filled(1_000, 1))),
        );
        await state.flush();
        const full = state.size();
        expect(full.usedBytes).toBeGreaterThan(200_000);
        expect(full.totalBytes).toBeGreaterThanOrEqual(full.usedBytes);
        state.apply(2, keys.map(remove));
        await state.flush();
        expect(state.size().usedBytes).toBeLessThan(full.usedBytes / 4);
      });

      test('flushes again and again, also what comes while one is under way', async () => {
        const { state } = current;
        for (let index = 1; index <= 20; index++) {
          state.apply(index, [put(bytes(`k${index}`), filled(100, index))]);
          const flushed = state.flush();
          state.apply(index, [put(bytes(`garbage${index}`), bytes(''))]);
          await flushed;
          expect(state.durableIndex).toBe(index);
        }
        await state.flush();
        expect(state.backlogBytes).toBe(0);
      });

      test('becomes durable by itself', async () => {
        const { state } = current;
        state.apply(1, [put(bytes('k'), bytes('v'))]);
        await expect.poll(() => state.durableIndex, { timeout: 10_000 }).toBe(1);
      });

      test('keeps the term of the entry; writes that no entry asked for leave it', async () => {
        current.state.apply(3, [put(bytes('k'), bytes('v'))], 2);
        current.state.apply(3, [remove(bytes('k'))]);
        expect(current.state.applied).toEqual({ index: 3, term: 2 });
        current = await current.reopen();
        expect(current.state.applied).toEqual({ index: 3, term: 2 });
      });

      describe('an installed state', () => {
        const position = { index: 50, term: 4 };
        const contents = [put(bytes('a'), bytes('new')), put(filled(2_000, 1), filled(40_000, 2))];
        const rowsOf = (state: State): string[] => plain(state.scan(ALL.start, ALL.end, ALL));

        test('replaces what was durable and what was not, at once and for good', async () => {
          const { state } = current;
          state.apply(1, [put(bytes('a'), bytes('old')), put(bytes('b'), bytes('old'))], 1);
          await state.flush();
          state.apply(2, [put(bytes('c'), bytes('old')), remove(bytes('a'))], 1);
          await state.install(await current.received(position, contents));
          for (const _ of ['in this life', 'in the next']) {
            expect(current.state.applied).toEqual(position);
            expect(current.state.durableIndex).toBe(50);
            expect(rowsOf(current.state)).toEqual(
              plain([
                [filled(2_000, 1), filled(40_000, 2)],
                [bytes('a'), bytes('new')],
              ]),
            );
            expect(current.state.get(bytes('b'))).toBeUndefined();
            current = await current.reopen();
          }
        });

        test('takes writes, flushes them, and reads them merged, in slices', async () => {
          const { state } = current;
          const keys = Array.from({ length: 100 }, (_, number) => bytes(`k${1_000 + number}`));
          const stored = keys.filter((_, number) => number % 2 === 0);
          await state.install(
            await current.received(
              position,
              stored.map((key) => put(key, bytes('stored'))),
            ),
          );
          expect(state.backlogBytes).toBe(0);
          const { usedBytes } = state.size();
          expect(usedBytes).toBeGreaterThan(0);
          const recent = keys.filter((_, number) => number % 2 === 1);
          state.apply(
            51,
            recent.map((key) => put(key, filled(10_000, 1))),
            4,
          );
          await state.flush();
          expect(state.size().usedBytes).toBeGreaterThan(usedBytes + 500_000);
          state.apply(52, [remove(keys[3] ?? bytes(''))], 5);
          let from = bytes('k');
          const seen: string[] = [];
          for (;;) {
            const rows = state.scan(from, undefined, { limit: 7 });
            for (const [key] of rows) seen.push(nameOf(key));
            const last = rows.at(-1)?.[0];
            if (last === undefined) break;
            from = Buffer.concat([last, filled(1, 0)]);
          }
          expect(seen).toEqual(
            keys.map(nameOf).filter((name) => name !== nameOf(keys[3] ?? bytes(''))),
          );
          current = await current.reopen();
          expect(current.state.applied).toEqual({ index: 52, term: 5 });
          expect(current.state.scan(bytes('k'), undefined, { limit: 200 })).toHaveLength(99);
        });

        test('leaves what was read before as it was', async () => {
          const { state } = current;
          const large = filled(100_000, 3);
          state.apply(1, [put(bytes('a'), bytes('old')), put(bytes('large'), large)]);
          await state.flush();
          const rows = state.scan(ALL.start, ALL.end, ALL);
          const value = state.get(bytes('large'));
          for (let round = 1; round <= 3; round++) {
            const next = { index: round * 10, term: 1 };
            await state.install(await current.received(next, contents));
            await new Promise((resolve) => setImmediate(resolve));
          }
          expect(plain(rows)).toEqual(
            plain([
              [bytes('a'), bytes('old')],
              [bytes('large'), large],
            ]),
          );
          expect(Buffer.compare(value ?? bytes(''), large)).toBe(0);
        });

        test('settles the flushes that waited, whatever they waited for', async () => {
          const { state } = current;
          const received = await current.received(position, contents);
          state.apply(1, [put(bytes('a'), bytes('old'))]);
          const before = state.flush();
          state.apply(2, [put(bytes('b'), bytes('old'))]);
          const installed = state.install(received);
          const during = state.flush();
          await Promise.all([before, during, installed]);
          expect(state.durableIndex).toBe(50);
          await state.flush();
          expect(state.get(bytes('b'))).toBeUndefined();
        });

        test('is refused when it is not the one that was announced', async () => {
          const { state } = current;
          state.apply(1, [put(bytes('a'), bytes('old'))], 1);
          for (const announced of [
            { index: 51, term: 4 },
            { index: 50, term: 5 },
          ]) {
            const received = await current.received(position, contents, announced);
            const refusal = await state.install(received).catch((error: unknown) => error);
            expect(refusal).toBeInstanceOf(SnapshotTransferError);
            expect((refusal as Error).message).toMatch(
              /announced as that of entry 5\d of term \d and is that of entry 50 of term 4\. Nothing was installed/,
            );
          }
          expect(state.applied).toEqual({ index: 1, term: 1 });
          state.apply(2, [], 1);
          await state.flush();
          expect(plain(state.scan(ALL.start, ALL.end, ALL))).toEqual(['61=old']);
          current = await current.reopen();
          expect(current.state.applied).toEqual({ index: 2, term: 1 });
        });

        test('may not be older, and excludes applying and another installation', async () => {
          const { state } = current;
          state.apply(60, [], 4);
          const older = await current.received(position, contents);
          await expect(state.install(older)).rejects.toThrow(/not older/);
          const newer = await current.received({ index: 61, term: 4 }, contents);
          const installed = state.install(newer);
          expect(() => state.apply(61, [], 4)).toThrow(/while a state is installed/);
          await expect(state.install(newer)).rejects.toThrow(/do not overlap/);
          await installed;
        });
      });
    });
  });
}
