/** Which cases the options of the bench choose. */
import { expect, test } from 'vitest';
import { parseOptions } from './options.ts';
import { casesOf, systemsOf } from './plan.ts';
import { rows } from './rows.ts';

const casesFor = (...commandLine: string[]) => {
  const options = parseOptions(commandLine);
  return options.rows.flatMap((row) =>
    casesOf(row, options).map((one) => ({
      row: row.name,
      concurrency: one.concurrency,
      members: one.members,
      systems: systemsOf(row, one, options.systems).map((system) => system.name),
    })),
  );
};

test('every case is measured unless something else is asked for', () => {
  expect(casesFor().length).toBe(rows.flatMap((row) => row.cases).length);
});

test('a quick run leaves out what has no goal, and makes large things small', () => {
  const places = casesFor('--quick', '--rows', 'put,keep-alive').map((one) => one.concurrency);
  expect(places).toEqual([1, 128, 128, 1_000]);
});

test('other numbers of callers, on other numbers of members, with peers that can', () => {
  expect(casesFor('--rows', 'put', '--concurrency', '7', '--members', '3')).toEqual([
    { row: 'put', concurrency: 7, members: 3, systems: ['conclave', 'etcd'] },
  ]);
});

test('rows without callers keep their own numbers', () => {
  expect(casesFor('--rows', 'campaign', '--concurrency', '7')).toMatchObject([{ concurrency: 1 }]);
});

test('mixtures are measured when they are named', () => {
  const chosen = ['--systems', 'conclave,etcd+sdk', '--rows', 'get'];
  expect(casesFor(...chosen)).toMatchObject([{ systems: ['conclave', 'etcd+sdk'] }]);
});

test.each([
  [['--rows', 'nothing'], /unknown row nothing; known are put,/],
  [['--systems', 'mysql'], /unknown system mysql; known are conclave,/],
  [['--reps', '0'], /--reps: must be a whole number above 0, got 0/],
  [['--quick', '--publish'], /--quick say too little/],
  [['--publish', '--rows', 'put'], /not some of them/],
] as const)('%s is refused', (commandLine, message) => {
  expect(() => parseOptions(commandLine)).toThrow(message);
});

test('every run keeps its figures, where git does not see them unless a place is named', () => {
  expect(parseOptions([]).json).toMatch(/\/test\/bench\/results\/[\dT-]+\.json$/);
  expect(parseOptions(['--json', 'figures.json']).json).toBe('figures.json');
  expect(parseOptions(['--from', 'figures.json']).json).toBeUndefined();
});
