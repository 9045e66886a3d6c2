import { expect, test } from 'vitest';
import { checkLeases } from './lease.ts';
import type { Commit, StoreAction, StoreOperation } from './store.ts';

const lease = 7n;
const entry = { value: 'v', createRevision: 2, modRevision: 2, version: 1, lease };
const attached: Commit = { revision: 2, changes: [{ type: 'put', key: 'k', entry }] };
const ended: Commit = { revision: 3, changes: [{ type: 'delete', key: 'k', entry: undefined }] };
let ids = 0;
const operation = (
  [invoked, returned]: readonly [number, number],
  action: StoreAction,
  revision?: number,
): StoreOperation => ({
  ...{ id: ++ids, client: 'c', action, invoked, returned },
  outcome:
    revision === undefined
      ? { kind: 'unknown', reason: 'no answer' }
      : { kind: 'ok', answer: { revision } },
});
/** A TTL of 10 s in a clock of seconds. */
const grant = operation([0, 1], { kind: 'grant', lease, ttlSeconds: 10 }, 1);
const renew = (at: number, revision?: number) =>
  operation([at, at + 1], { kind: 'renew', lease }, revision);
const sawRevision = (at: number, revision: number) =>
  operation([at, at], { kind: 'list' }, revision);
const check = (log: readonly Commit[], operations: readonly StoreOperation[], end = 100) =>
  checkLeases({ log, operations, unitsPerSecond: 1, slackSeconds: 3, end });

test('a lease that ends between its TTL and the slack is sound', () => {
  expect(check([attached, ended], [grant, sawRevision(10, 2), sawRevision(12, 3)])).toEqual([]);
});

test('a lease that ends before its TTL is found', () => {
  expect(check([attached, ended], [grant, sawRevision(9, 3)])).toEqual([
    expect.stringMatching(/^lease 7 of 10 s ended at revision 3, known at 9, too early/),
  ]);
});

test('a renewal counts from when it was sent', () => {
  const until = (at: number) => check([attached, ended], [grant, renew(5, 2), sawRevision(at, 3)]);
  expect(until(14)).toHaveLength(1);
  expect(until(15)).toEqual([]);
});

test('a renewal without an answer keeps nobody to anything', () => {
  expect(check([attached, ended], [grant, renew(5), sawRevision(11, 3)])).toEqual([]);
  expect(
    check([attached, ended], [grant, renew(5), sawRevision(18, 2), sawRevision(18.5, 3)]),
  ).toEqual([]);
});

test('a lease that ends too late, or never, is found', () => {
  expect(check([attached, ended], [grant, sawRevision(15, 2), sawRevision(16, 3)])).toEqual([
    'lease 7 ended at revision 3, not before 15; it had to end by 14',
  ]);
  expect(check([attached], [grant])).toEqual(['lease 7 still holds keys, 86 after its latest end']);
  expect(check([attached], [grant], 14)).toEqual([]);
});

test('a revoked lease may end at any time', () => {
  const revoke = operation([2, 3], { kind: 'revoke', lease }, 3);
  expect(check([attached, ended], [grant, revoke])).toEqual([]);
});

test('a lease that nobody was granted is found', () => {
  expect(check([attached], [])).toEqual(['lease 7 held keys and was never granted']);
});
