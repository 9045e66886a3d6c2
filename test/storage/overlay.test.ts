import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Change } from '../../server/storage/changes.ts';
import { Overlay } from '../../server/storage/overlay.ts';

const names = ['a', 'b', 'c'] as const;

type Step = { readonly name: (typeof names)[number]; readonly value?: number } | 'freeze' | 'drop';

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ name: fc.constantFrom(...names), value: fc.nat(9) }) },
  { weight: 2, arbitrary: fc.record({ name: fc.constantFrom(...names) }) },
  { weight: 2, arbitrary: fc.constant('freeze' as const) },
  { weight: 2, arbitrary: fc.constant('drop' as const) },
);

test('a key shows the newest change of the generations that are left', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const overlay = new Overlay({ index: 0, term: 1 });
      // Oldest first; the last one takes writes.
      const model: Map<string, Change>[] = [new Map()];
      for (const [index, one] of steps.entries()) {
        if (one === 'freeze') {
          if (model.length === 1) {
            overlay.freezeOldest();
            model.push(new Map());
          }
        } else if (one === 'drop') {
          if (model.length > 1) {
            overlay.drop(overlay.freezeOldest());
            model.shift();
          }
        } else {
          const key = Buffer.from(one.name);
          const value = one.value === undefined ? undefined : Buffer.of(one.value);
          overlay.apply({ index, term: 1 }, [
            value === undefined ? { kind: 'remove', key } : { kind: 'put', key, value },
          ]);
          model.at(-1)?.set(one.name, value ?? 'removed');
        }
        for (const name of names) {
          const newest = model.findLast((generation) => generation.has(name))?.get(name);
          expect(overlay.get(name)).toEqual(newest);
        }
      }
    }),
  );
});
