/** The checks of locks find what is planted, and nothing in a history that is right. */
import { expect, test } from 'vitest';
import { checkAllOrNone, checkLine, checkUses, formatUse, type LineRule } from './recipes-line.ts';
import type { Change, Commit } from './store.ts';

const put = (key: string, createRevision: number, value = '', modRevision = createRevision) =>
  ({
    type: 'put',
    key,
    entry: { value, createRevision, modRevision, version: 1, lease: 7n },
  }) as const satisfies Change;
const gone = (key: string) => ({ type: 'delete', key, entry: undefined }) as const satisfies Change;

const history = (...changes: readonly (readonly Change[])[]): Commit[] =>
  changes.map((each, at) => ({ revision: at + 2, changes: each }));

const alone: LineRule = {
  together: (held) => (held.length > 1 ? `${held.length} hold` : undefined),
  admitted: (_, ahead) => (ahead.length > 0 ? `behind ${ahead.length}` : undefined),
};
const line = { prefix: 'l/', rule: alone };
const grant = (key: string, createRevision: number, token: number) => ({
  holder: 'x',
  key,
  createRevision,
  token,
});

// Revisions 2 to 5.
const turns = history([put('l/a', 2)], [put('l/b', 3)], [gone('l/a')], [gone('l/b')]);

test('one after the other is right', () => {
  expect(checkLine(turns, line, [grant('l/a', 2, 2), grant('l/b', 3, 4)])).toEqual([]);
});

test('two at a time, somebody too early and somebody without a place are found', () => {
  const early = checkLine(turns, line, [grant('l/a', 2, 2), grant('l/b', 3, 3)]);
  expect(early).toEqual(['x was admitted with l/b at 3: behind 1', 'revision 3: 2 hold']);
  expect(checkLine(turns, line, [grant('l/a', 2, 4)])).toHaveLength(1);
  expect(checkLine(turns, line, [grant('l/a', 3, 3)])).toHaveLength(1);
  // A token from after everything.
  expect(checkLine(turns, line, [grant('l/b', 3, 9)])).toHaveLength(1);
});

test('a holder that changes what it holds is judged again', () => {
  const modes: LineRule = {
    together: (held) =>
      held.length > 1 && held.some(({ value }) => value === 'w') ? 'not alone' : undefined,
    admitted: () => undefined,
  };
  const changes = history([put('l/a', 2, 'r')], [put('l/b', 3, 'r')], [put('l/a', 2, 'w', 4)]);
  const grants = [grant('l/a', 2, 2), grant('l/b', 3, 3)];
  expect(checkLine(changes, { prefix: 'l/', rule: modes }, grants)).toEqual([
    'revision 4: not alone',
  ]);
});

test('the key beside is as of the admission', () => {
  const rule: LineRule = {
    admitted: (_, __, beside) => (beside === '1' ? undefined : `beside ${beside}`),
  };
  const changes = history([put('limit', 2, '1')], [put('l/a', 3)], [put('limit', 2, '2', 4)]);
  const judged = (token: number) =>
    checkLine(changes, { prefix: 'l/', beside: 'limit', rule }, [grant('l/a', 3, token)]);
  expect(judged(3)).toEqual([]);
  expect(judged(4)).toHaveLength(1);
});

test('a guarded write without its place, or behind a later one, is found', () => {
  const use = (key: string, createRevision: number, token: number) =>
    put('use/1', 9, formatUse({ key, createRevision, token }));
  const ordered = { areOrdered: true };
  const base = [[put('l/a', 2)], [put('l/b', 3)]] as const;
  expect(checkUses(history(...base, [use('l/a', 2, 2)]), 'use/', ordered)).toEqual([]);
  expect(checkUses(history(...base, [use('l/a', 1, 1)]), 'use/', ordered)).toHaveLength(1);
  const after = history(...base, [gone('l/a')], [use('l/a', 2, 2)]);
  expect(checkUses(after, 'use/', ordered)).toHaveLength(1);
  const back = history(...base, [use('l/b', 3, 3)], [use('l/a', 2, 2)]);
  expect(checkUses(back, 'use/', ordered)).toHaveLength(1);
  expect(checkUses(back, 'use/', { areOrdered: false })).toEqual([]);
  const never = { areOrdered: false, allows: () => false };
  expect(checkUses(history(...base, [use('l/a', 2, 2)]), 'use/', never)).toHaveLength(1);
});

test('an attempt of which only a part comes or goes is found', () => {
  const prefixes = ['l/', 'm/'];
  const both = [put('l/a', 2), put('m/a', 2)];
  expect(checkAllOrNone(history(both, [gone('l/a'), gone('m/a')]), prefixes)).toEqual([]);
  expect(checkAllOrNone(history(both, [gone('l/a')]), prefixes)).toHaveLength(1);
  expect(checkAllOrNone(history([put('l/a', 2)], [put('m/a', 3)]), prefixes)).toHaveLength(1);
});
