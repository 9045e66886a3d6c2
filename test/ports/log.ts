/** What every `Log` must do. Run against each implementation by `log.test.ts`. */
import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Log, LogPosition, Recovered } from '../../server/ports.ts';
import type { Entry, EntryKind, HardState } from '../../server/raft/message.ts';
import { LogReleasedError } from '../../server/storage/errors.ts';

export type LogUnderTest = {
  readonly log: Log;
  readonly recovered: Recovered;
  reopen(): Promise<LogUnderTest>;
  dispose(): Promise<void>;
};

const KINDS = ['command', 'no-op', 'configuration'] as const satisfies readonly EntryKind[];

type Step =
  | {
      kind: 'append';
      /** Entries of the tail that are replaced. */
      back: number;
      sizes: readonly number[];
      hardState: HardState | undefined;
    }
  | { kind: 'read'; from: number; to: number; maxBytes: number }
  | { kind: 'release'; part: number }
  /** Behind an entry of the log, or `beyond` its end; `sameTerm`: as a log that lacks nothing. */
  | { kind: 'reset'; part: number; beyond: number; sameTerm: boolean; hardState: HardState }
  | { kind: 'reopen' };

const hardStateArbitrary: fc.Arbitrary<HardState> = fc.record({
  term: fc.nat({ max: 2 ** 40 }),
  votedFor: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  commit: fc.nat({ max: 2 ** 40 }),
});
const stepArbitrary: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('append' as const),
      back: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, fc.nat({ max: 4 })),
      sizes: fc.array(fc.oneof(fc.nat({ max: 40 }), fc.nat({ max: 3_000 })), { maxLength: 4 }),
      hardState: fc.option(hardStateArbitrary, { nil: undefined }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('read' as const),
      from: fc.nat({ max: 100 }),
      to: fc.nat({ max: 100 }),
      maxBytes: fc.nat({ max: 5_000 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('release' as const), part: fc.nat({ max: 100 }) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('reset' as const),
      part: fc.nat({ max: 100 }),
      beyond: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 100 })),
      sameTerm: fc.boolean(),
      hardState: hardStateArbitrary,
    }),
  },
  { weight: 1, arbitrary: fc.constant<Step>({ kind: 'reopen' }) },
);

/** Entries as text: comparing those is fast and fails readably. */
const plain = (entries: readonly Entry[]): string[] =>
  entries.map(
    ({ index, term, kind, data }) =>
      `${index}/${term} ${kind} ${Buffer.from(data).toString('hex')}`,
  );

/** A log that keeps everything since its last reset. `released` is how far it might have been released. */
class Model {
  hardState: HardState = { term: 0, votedFor: 0n, commit: 0 };
  /** Where the log began last. */
  base: LogPosition = { index: 0, term: 0 };
  entries: Entry[] = [];
  released = 0;
  #written = 0;

  get lastIndex(): number {
    return this.base.index + this.entries.length;
  }

  termAt(index: number): number | undefined {
    return index === this.base.index ? this.base.term : this.#from(index)[0]?.term;
  }

  #from(index: number): Entry[] {
    return this.entries.slice(index - this.base.index - 1);
  }

  append(step: Step & { kind: 'append' }): { hardState?: HardState; entries: Entry[] } {
    const kept = Math.max(this.released, this.lastIndex - step.back);
    const entries = step.sizes.map((size, position): Entry => {
      this.#written += 1;
      return {
        index: kept + position + 1,
        term: this.#written,
        kind: KINDS[this.#written % KINDS.length] ?? 'command',
        data: Buffer.alloc(size, this.#written),
      };
    });
    if (entries.length > 0) {
      this.entries = [...this.entries.slice(0, kept - this.base.index), ...entries];
    }
    if (step.hardState !== undefined) this.hardState = step.hardState;
    return {
      entries,
      ...(step.hardState === undefined ? {} : { hardState: step.hardState }),
    };
  }

  reset(step: Step & { kind: 'reset' }): LogPosition {
    const open = this.lastIndex - this.released;
    const index = this.released + Math.floor((open * step.part) / 100) + step.beyond;
    const known = this.termAt(index);
    this.#written += 1;
    const term = step.sameTerm && known !== undefined ? known : this.#written;
    this.hardState = step.hardState;
    if (term === known) return { index, term };
    this.base = { index, term };
    this.entries = [];
    this.released = index;
    return this.base;
  }

  read(from: number, to: number, maxBytes: number): Entry[] {
    const found: Entry[] = [];
    let bytes = 0;
    for (const entry of this.#from(from)) {
      bytes += entry.data.length;
      if (entry.index > to || (found.length > 0 && bytes > maxBytes)) break;
      found.push(entry);
    }
    return found;
  }

  check(recovered: Recovered): void {
    expect(recovered.hardState).toEqual(this.hardState);
    const { index, term } = recovered.start;
    expect(index).toBeLessThanOrEqual(this.released);
    expect(term).toBe(this.termAt(index));
    expect(plain(recovered.entries)).toEqual(plain(this.#from(index + 1)));
  }
}

async function runSteps(open: () => Promise<LogUnderTest>, steps: readonly Step[]): Promise<void> {
  let current = await open();
  try {
    const model = new Model();
    model.check(current.recovered);
    for (const step of steps) {
      const last = model.lastIndex;
      if (step.kind === 'append') await current.log.append(model.append(step));
      else if (step.kind === 'read') {
        if (last === model.released) continue;
        const first = model.released + 1;
        const from = first + (step.from % (last - model.released));
        const to = from + (step.to % (last - from + 1));
        const found = await current.log.entries(from, to, step.maxBytes);
        expect(plain(found)).toEqual(plain(model.read(from, to, step.maxBytes)));
      } else if (step.kind === 'release') {
        const index = Math.floor((last * step.part) / 100);
        model.released = Math.max(model.released, index);
        await current.log.release(index);
      } else if (step.kind === 'reset') {
        await current.log.reset(model.reset(step), step.hardState);
      } else {
        current = await current.reopen();
        model.check(current.recovered);
      }
    }
    current = await current.reopen();
    model.check(current.recovered);
  } finally {
    await current.dispose();
  }
}

const entry = (index: number, term: number, text = ''): Entry => ({
  index,
  term,
  kind: 'command',
  data: Buffer.from(text),
});

export function describeLog(
  name: string,
  open: () => Promise<LogUnderTest>,
  options: { readonly runs: number },
): void {
  describe(name, () => {
    test('keeps what was appended whatever the sequence of operations', async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(stepArbitrary, { maxLength: 60, size: 'max' }), (steps) =>
          runSteps(open, steps),
        ),
        { numRuns: options.runs },
      );
    });

    describe('with one log', () => {
      let current: LogUnderTest;
      beforeEach(async () => {
        current = await open();
      });
      afterEach(() => current.dispose());

      test('begins empty', () => {
        expect(current.recovered).toEqual({
          hardState: { term: 0, votedFor: 0n, commit: 0 },
          start: { index: 0, term: 0 },
          entries: [],
        });
      });

      test('keeps a vote without entries', async () => {
        const hardState = { term: 3, votedFor: 2n ** 64n - 1n, commit: 0 };
        await current.log.append({ hardState, entries: [] });
        current = await current.reopen();
        expect(current.recovered.hardState).toEqual(hardState);
      });

      test('a shorter tail of a newer term replaces a longer one', async () => {
        await current.log.append({ entries: [entry(1, 1), entry(2, 1), entry(3, 1), entry(4, 1)] });
        await current.log.append({ entries: [entry(2, 2, 'new')] });
        current = await current.reopen();
        expect(plain(current.recovered.entries)).toEqual(plain([entry(1, 1), entry(2, 2, 'new')]));
        await expect(current.log.entries(1, 3, 1_000)).rejects.toThrow(/within the log/);
      });

      test('refuses a gap', async () => {
        await current.log.append({ entries: [entry(1, 1)] });
        await expect(async () => current.log.append({ entries: [entry(3, 1)] })).rejects.toThrow(
          /continue the log/,
        );
      });

      test('refuses overlapping appends', async () => {
        const first = current.log.append({ entries: [entry(1, 1)] });
        await expect(async () => current.log.append({ entries: [entry(2, 1)] })).rejects.toThrow(
          /overlap/,
        );
        await first;
      });

      test('reads at least one entry however small the limit', async () => {
        await current.log.append({ entries: [entry(1, 1, 'long'), entry(2, 1, 'long')] });
        expect(plain(await current.log.entries(1, 2, 0))).toEqual(plain([entry(1, 1, 'long')]));
        expect(await current.log.entries(1, 2, 8)).toHaveLength(2);
      });

      test('buffers may be reused once append has resolved', async () => {
        const data = Buffer.from('data');
        await current.log.append({ entries: [{ ...entry(1, 1), data }] });
        data.fill(0);
        expect(plain(await current.log.entries(1, 1, 100))).toEqual(plain([entry(1, 1, 'data')]));
      });

      describe('restarts behind an installed state', () => {
        const hardState = { term: 7, votedFor: 0n, commit: 9 };

        test('without the entries it had', async () => {
          await current.log.append({ entries: [entry(1, 1), entry(2, 1)] });
          await current.log.reset({ index: 9, term: 6 }, hardState);
          await expect(current.log.entries(2, 2, 10)).rejects.toBeInstanceOf(LogReleasedError);
          await current.log.append({ entries: [entry(10, 7, 'next')] });
          expect(plain(await current.log.entries(10, 10, 10))).toEqual(
            plain([entry(10, 7, 'next')]),
          );
          current = await current.reopen();
          expect(current.recovered.start).toEqual({ index: 9, term: 6 });
          expect(current.recovered.hardState).toEqual(hardState);
          expect(plain(current.recovered.entries)).toEqual(plain([entry(10, 7, 'next')]));
        });

        test('without a tail that conflicts', async () => {
          await current.log.append({ entries: [entry(1, 1), entry(2, 1), entry(3, 1)] });
          await current.log.reset({ index: 2, term: 2 }, hardState);
          current = await current.reopen();
          expect(current.recovered.start).toEqual({ index: 2, term: 2 });
          expect(current.recovered.entries).toEqual([]);
        });

        test('with the tail when it agrees', async () => {
          const entries = [entry(1, 1), entry(2, 2), entry(3, 3, 'kept')];
          await current.log.append({ entries });
          await current.log.reset({ index: 2, term: 2 }, hardState);
          expect(plain(await current.log.entries(3, 3, 10))).toEqual(plain(entries.slice(2)));
          current = await current.reopen();
          expect(current.recovered.hardState).toEqual(hardState);
          expect(plain(current.recovered.entries).at(-1)).toBe(plain(entries).at(-1));
        });

        test('twice in a row', async () => {
          await current.log.append({ entries: [entry(1, 1)] });
          await current.log.reset({ index: 5, term: 2 }, hardState);
          await current.log.reset({ index: 9, term: 6 }, hardState);
          current = await current.reopen();
          expect(current.recovered.start).toEqual({ index: 9, term: 6 });
          await current.log.append({ entries: [entry(10, 7)] });
        });

        test('but not below where it begins, nor during an append', async () => {
          await current.log.reset({ index: 9, term: 6 }, hardState);
          await expect(async () =>
            current.log.reset({ index: 8, term: 6 }, hardState),
          ).rejects.toThrow(/below its beginning/);
          const append = current.log.append({ entries: [entry(10, 7)] });
          await expect(async () =>
            current.log.reset({ index: 20, term: 6 }, hardState),
          ).rejects.toThrow(/overlap/);
          await append;
        });
      });
    });
  });
}
