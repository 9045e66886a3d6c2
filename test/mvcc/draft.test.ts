import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Draft } from '../../server/mvcc/draft.ts';
import type { Write } from '../../server/ports.ts';
import { bytes } from '../support/plain.ts';
import { SortedState } from '../support/sorted-state.ts';

const key = fc.string({
  minLength: 0,
  maxLength: 2,
  unit: fc.constantFrom('a', 'b', '\0', '\xff'),
});
const write: fc.Arbitrary<Write> = fc.oneof(
  fc.record({ kind: fc.constant('put' as const), key: key.map(bytes), value: key.map(bytes) }),
  fc.record({ kind: fc.constant('remove' as const), key: key.map(bytes) }),
);

test('a draft reads as the state would with its writes applied', () => {
  fc.assert(
    fc.property(
      fc.array(write),
      fc.array(write),
      fc.array(fc.tuple(key, fc.option(key), fc.integer({ min: 1, max: 8 })), { minLength: 1 }),
      (before, own, scans) => {
        const base = new SortedState();
        base.apply(1, before);
        const draft = new Draft(base, 1, true);
        for (const one of own) {
          if (one.kind === 'put') draft.put(one.key, one.value);
          else draft.remove(one.key);
        }
        const after = base.copy();
        after.apply(2, draft.writes);
        for (const [start, end, limit] of scans) {
          const to = end === null ? undefined : bytes(end);
          expect(draft.scan(bytes(start), to, { limit })).toEqual(
            after.scan(bytes(start), to, { limit }),
          );
          const { count, next } = draft.count(bytes(start), to, limit);
          expect(next).toEqual(base.count(bytes(start), to, limit).next);
          const counted = after.scan(bytes(start), next ?? to, { limit: 1_000 });
          expect(count).toBe(counted.length);
          expect(draft.get(bytes(start))).toEqual(after.get(bytes(start)));
        }
      },
    ),
    { numRuns: 1000 },
  );
});
