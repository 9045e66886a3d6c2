/** Listings in the order of creation, from an order that is kept: the same answers as from a scan. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Operation, RangeRequest, TxnRequest } from '../../server/mvcc/types.ts';
import { plain } from '../support/plain.ts';
import { SortedState } from '../support/sorted-state.ts';
import { command, deleteRange, put } from './arbitraries.ts';
import { del, FROM_KEY, get, put as putOf, txn } from './requests.ts';
import { Rig } from './rig.ts';

const keeping = () => new Rig(new SortedState(), { creationOrders: { minKeys: 1 } });
const scanning = () =>
  new Rig(new SortedState(), { creationOrders: { minKeys: Number.POSITIVE_INFINITY } });

const revision = fc.oneof(fc.constant(0), fc.integer({ min: -1, max: 30 }));
/** Few spans, so that the same one is asked for again. */
const listing: fc.Arbitrary<RangeRequest> = fc
  .record({
    span: fc.constantFrom(['a', 'b'], ['\0', '\0'], ['aa', '\xff']),
    limit: fc.integer({ min: 0, max: 4 }),
    sortOrder: fc.constantFrom('ascend' as const, 'descend' as const),
    revision: fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, revision),
    minCreateRevision: revision,
    maxCreateRevision: revision,
    keysOnly: fc.boolean(),
    countOnly: fc.integer({ min: 0, max: 4 }).map((n) => n === 0),
  })
  .map(({ span: [start = '', end = ''], ...options }) =>
    get(start, end, { ...options, sortTarget: 'create' }),
  );

const together = (success: readonly Operation[]): TxnRequest => ({
  kind: 'txn',
  compare: [],
  success,
  failure: [],
});
const operation = fc.oneof(put, deleteRange, listing, listing);
const nested = fc.array(operation, { maxLength: 3 }).map(together);
const mixed = fc.array(fc.oneof(operation, nested), { maxLength: 6 }).map(together);

test('the same answers as from a scan, inside transactions and outside', () => {
  fc.assert(
    fc.property(
      fc.array(fc.oneof(command, mixed, mixed, listing, listing), { maxLength: 40 }),
      (steps) => {
        const kept = keeping();
        const scanned = scanning();
        for (const step of steps) {
          if (step.kind === 'range') expect(kept.range(step)).toEqual(scanned.range(step));
          else {
            const { result, events } = kept.apply(step);
            expect(plain({ result, events })).toEqual(plain(pick(scanned.apply(step))));
          }
        }
      },
    ),
    { numRuns: 1_000 },
  );
});

const pick = ({ result, events }: ReturnType<Rig['apply']>) => ({ result, events });

/** A state that counts how many entries scans return. */
class CountingState extends SortedState {
  scanned = 0;

  override scan(...range: Parameters<SortedState['scan']>): ReturnType<SortedState['scan']> {
    const entries = super.scan(...range);
    this.scanned += entries.length;
    return entries;
  }
}

const name = (place: number): string => `line/${String(place).padStart(4, '0')}`;
const line = (options: Partial<RangeRequest>): RangeRequest =>
  get('line/', 'line0', { sortTarget: 'create', sortOrder: 'descend', limit: 1, ...options });

/** A line of so many, each created behind the one before. */
function lineOf(places: number) {
  const state = new CountingState();
  const rig = new Rig(state);
  for (let place = 0; place < places; place += 1) rig.apply(putOf(name(place)));
  const first = rig.machine.revision - places + 1;
  return { rig, state, first };
}

const keysOf = (result: unknown): string[] =>
  (result as { kvs: { key: string }[] }).kvs.map(({ key }) => key);

test('a look at a long line does not read the line, from the second one on', () => {
  const { rig, state, first } = lineOf(1_000);
  const ahead = line({ maxCreateRevision: first + 499 });
  expect(keysOf(rig.range(ahead))).toEqual([name(499)]);
  rig.range(ahead);
  state.scanned = 0;
  rig.apply(del(name(499)));
  rig.apply(putOf('line/new'));
  expect(rig.range(ahead)).toMatchObject({ kvs: [{ key: name(498) }], more: true, count: 1_000 });
  expect(keysOf(rig.range(line({})))).toEqual(['line/new']);
  const joined = rig.result(txn([], [putOf('line/newer'), line({ limit: 2 })]));
  expect(joined).toMatchObject({
    responses: [{}, { kvs: [{ key: 'line/newer' }, {}], count: 1_001 }],
  });
  expect(state.scanned).toBe(0);
});

test('a short line is read', () => {
  const { rig, state } = lineOf(10);
  rig.range(line({}));
  rig.range(line({}));
  state.scanned = 0;
  rig.range(line({}));
  expect(state.scanned).toBe(10);
});

test('an entry that is refused leaves the order as it was', () => {
  const { rig } = lineOf(100);
  rig.range(line({}));
  rig.range(line({}));
  const keepsNothing = putOf(name(0), '', { ignoreValue: true });
  const request = txn([], [putOf('line/x'), del('line/', FROM_KEY), keepsNothing]);
  expect(rig.result(request)).toMatchObject({ kind: 'fault', code: 'key-not-found' });
  expect(keysOf(rig.range(line({})))).toEqual([name(99)]);
});

test('what a transaction makes and deletes again is not in the order', () => {
  const { rig } = lineOf(100);
  rig.range(line({}));
  rig.range(line({}));
  const request = txn([], [putOf('line/x'), del(name(99), FROM_KEY), line({})]);
  const { responses } = rig.result(request) as { responses: unknown[] };
  expect(responses[2]).toMatchObject({ kvs: [{ key: name(98) }], count: 99 });
});

test('an older revision is answered as it was', () => {
  const { rig } = lineOf(100);
  rig.range(line({}));
  rig.range(line({}));
  const { revision } = rig.machine;
  rig.apply(del(name(99)));
  expect(rig.range(line({ revision }))).toMatchObject({ kvs: [{ key: name(99) }], count: 100 });
  expect(rig.range(line({}))).toMatchObject({ kvs: [{ key: name(98) }], count: 99 });
});

test('an expired lease takes its keys out of the order', () => {
  const { rig } = lineOf(100);
  rig.apply({ kind: 'lease-grant', id: 7n, ttlSeconds: 60 });
  rig.apply(putOf('line/leased', '', { lease: 7n }));
  rig.range(line({}));
  expect(keysOf(rig.range(line({})))).toEqual(['line/leased']);
  rig.apply({ kind: 'lease-expire', id: 7n, term: 1 });
  expect(keysOf(rig.range(line({})))).toEqual([name(99)]);
});

test('a state that was replaced is not answered from the order of the one before', () => {
  const { rig, state } = lineOf(100);
  rig.range(line({}));
  rig.range(line({}));
  const other = new Rig(state);
  other.apply(del(name(99)));
  rig.machine.load(state, 0);
  expect(keysOf(rig.range(line({})))).toEqual([name(98)]);
});
