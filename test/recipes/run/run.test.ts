/** The runner of these tests: what it is asked for, and what it counts. */
import { expect, test } from 'vitest';
import { chooseRun } from './arguments.ts';
import { count, type Report } from './count.ts';

test('the store and its members are chosen, all else is for vitest', () => {
  expect(chooseRun([])).toEqual({ store: 'conclave', members: '1', rest: [] });
  const words = ['--store', 'etcd', 'mutex', '-t', 'free lock', '--members=3', '--bail=1'];
  expect(chooseRun(words)).toEqual({
    store: 'etcd',
    members: '3',
    rest: ['mutex', '-t', 'free lock', '--bail=1'],
  });
});

test('what cannot be chosen is told', () => {
  expect(chooseRun(['--store', 'consul'])).toBe("--store must be conclave or etcd, not 'consul'");
  expect(chooseRun(['--members=2'])).toBe("--members must be 1 or 3, not '2'");
  expect(chooseRun(['--members'])).toBe("--members must be 1 or 3, not 'nothing'");
});

const report = (given: Partial<Report>): Report => ({
  numPassedTests: 2,
  numFailedTests: 0,
  numPendingTests: 0,
  testResults: [],
  ...given,
});

test('no failure goes uncounted', () => {
  expect(count(report({}), 0)).toEqual({ passed: 2, failed: 0, skipped: 0 });
  expect(count(report({ numFailedTests: 3, numPendingTests: 1 }), 1)).toEqual({
    passed: 2,
    failed: 3,
    skipped: 1,
  });
  const broken = { status: 'failed', assertionResults: [] };
  expect(count(report({ testResults: [broken] }), 1).failed).toBe(1);
  // Ended early, an unhandled error, nothing run.
  expect(count(undefined, 1).failed).toBe(1);
  expect(count(report({}), 1).failed).toBe(1);
  expect(count(report({ numPassedTests: 0 }), 0).failed).toBe(1);
});
