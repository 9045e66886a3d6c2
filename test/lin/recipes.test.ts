import { expect, test } from 'vitest';
import type { Outcome } from './history.ts';
import {
  checkFencing,
  checkGrowingSet,
  checkQueue,
  type Hold,
  overlappingHolds,
  type QueueAction,
  type SetOperation,
} from './recipes.ts';

const unknown = { kind: 'unknown', reason: 'no answer' } as const;
const refused = { kind: 'fail', reason: 'refused' } as const;
const yes = { kind: 'ok', answer: true } as const;
let ids = 0;
const operation = <Action, Answer>(at: number, action: Action, outcome: Outcome<Answer>) => ({
  ...{ id: ++ids, client: 'c', action, invoked: at, returned: at + 1, outcome },
});

const add = (
  at: number,
  element: string,
  outcome: SetOperation['outcome'] = { kind: 'ok', answer: {} },
) => operation(at, { kind: 'add', element } as const, outcome);
const shows = (at: number, ...elements: string[]): SetOperation =>
  operation(at, { kind: 'read' }, { kind: 'ok', answer: { elements } });

test('a set keeps what it acknowledged and shows nothing else', () => {
  const sound = [add(0, 'a'), add(0, 'open', unknown), add(0, 'no', refused)];
  expect(checkGrowingSet([...sound, shows(2, 'a'), shows(4, 'a', 'open')])).toEqual([]);
  expect(checkGrowingSet([...sound, shows(2)])).toHaveLength(1);
  expect(checkGrowingSet([...sound, shows(2, 'a', 'open'), shows(4, 'a')])).toHaveLength(1);
  expect(checkGrowingSet([...sound, shows(2, 'a', 'no')])).toHaveLength(1);
  expect(checkGrowingSet([...sound, shows(2, 'a', 'a')])).toHaveLength(1);
  expect(checkGrowingSet([shows(0, 'a'), add(5, 'a')])).toHaveLength(1);
});

const hold = (holder: string, token: bigint, asked: number, ended: number): Hold => ({
  ...{ holder, token, asked, acquired: asked + 1, ended },
});

test('tokens are unique and rise in real time', () => {
  expect(checkFencing([hold('p', 1n, 0, 5), hold('q', 2n, 3, 9)], [])).toEqual([]);
  expect(checkFencing([hold('p', 1n, 0, 5), hold('q', 1n, 6, 9)], [])).toHaveLength(1);
  expect(checkFencing([hold('p', 2n, 0, 5), hold('q', 1n, 6, 9)], [])).toHaveLength(1);
  // Asked for before the higher one was given: the two attempts overlap.
  expect(checkFencing([hold('p', 2n, 0, 5), hold('q', 1n, 0.5, 9)], [])).toEqual([]);
});

test('a fenced resource that goes back to an older token is found', () => {
  const write = (holder: string, token: bigint) => ({ holder, token });
  expect(checkFencing([], [write('p', 1n), write('q', 2n), write('q', 2n)])).toEqual([]);
  expect(checkFencing([], [write('p', 1n), write('q', 2n), write('p', 1n)])).toHaveLength(1);
});

test('holds that overlap are counted', () => {
  expect(overlappingHolds([hold('p', 1n, 0, 5), hold('q', 2n, 5, 9)])).toEqual([]);
  expect(overlappingHolds([hold('p', 1n, 0, 5), hold('q', 2n, 3, 9)])).toHaveLength(1);
  const long = hold('p', 1n, 0, Number.POSITIVE_INFINITY);
  expect(overlappingHolds([long, hold('q', 2n, 3, 4), hold('r', 3n, 6, 7)])).toHaveLength(2);
});

const queued = (
  at: number,
  kind: QueueAction['kind'],
  item: string,
  outcome: Outcome<true> = yes,
) => operation<QueueAction, true>(at, { kind, item }, outcome);

test('a queue loses nothing, invents nothing and completes once', () => {
  const pushed = queued(0, 'push', 'a');
  const claimed = queued(2, 'claim', 'a');
  const completed = queued(4, 'complete', 'a');
  expect(checkQueue([pushed], ['a'])).toEqual([]);
  expect(checkQueue([pushed, claimed, completed], [])).toEqual([]);
  expect(
    checkQueue([pushed, claimed, queued(4, 'claim', 'a'), queued(6, 'complete', 'a')], []),
  ).toEqual([]);
  expect(checkQueue([pushed, claimed, queued(4, 'complete', 'a', unknown)], [])).toEqual([]);
  expect(checkQueue([queued(0, 'push', 'a', unknown)], [])).toEqual([]);

  expect(checkQueue([pushed], [])).toEqual([expect.stringMatching(/^lost/)]);
  expect(checkQueue([pushed, claimed], [])).toEqual([expect.stringMatching(/^lost/)]);
  expect(checkQueue([], ['a'])).toEqual([expect.stringMatching(/nobody pushed/)]);
  expect(checkQueue([queued(0, 'push', 'a', refused), claimed, completed], [])).toHaveLength(1);
  expect(checkQueue([pushed, claimed, completed, queued(6, 'complete', 'a')], [])).toEqual([
    'a was completed 2 times',
  ]);
  expect(checkQueue([pushed, claimed, completed], ['a'])).toHaveLength(1);
  expect(checkQueue([pushed, claimed, completed, queued(8, 'claim', 'a')], [])).toEqual([
    expect.stringMatching(/handed out again/),
  ]);
});
