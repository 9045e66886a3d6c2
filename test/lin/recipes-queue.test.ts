/** The check of queues finds what is planted in their keys. */
import { describe, expect, test } from 'vitest';
import { queueKeys } from '../../recipes/names.ts';
import { QueueSpace, waitsForNobody } from './recipes-queue.ts';
import type { Change } from './store.ts';

const keys = queueKeys('q');
let revision = 1;

const put = (key: string, value: unknown = ''): Change => ({
  type: 'put',
  key,
  entry: {
    value: typeof value === 'string' ? value : JSON.stringify(value),
    createRevision: revision,
    modRevision: revision,
    version: 1,
    lease: 0n,
  },
});
const gone = (key: string): Change => ({ type: 'delete', key, entry: undefined });

/** What the last of these commits breaks; those before must break nothing. */
function broken(
  promises: { concurrency?: number; groupConcurrency?: number },
  ...commits: readonly (readonly Change[])[]
): string | undefined {
  const space = new QueueSpace(keys, { groupConcurrency: 1, ...promises });
  let wrong: string | undefined;
  for (const changes of commits) {
    expect(wrong).toBeUndefined();
    revision += 1;
    wrong = space.apply({ revision, changes });
  }
  return wrong;
}

const job = (id: string, place: keyof typeof keys, state: object = {}): readonly Change[] => [
  put(keys.job + id, 'payload'),
  put(`${keys[place]}${id}`, state),
];
const inLine = (id: string, group: string): readonly Change[] => [
  put(keys.job + id, 'payload'),
  put(`${keys.line}${group}/${id}`, { group }),
];
const withTurn = (id: string, group: string, turn = 0): readonly Change[] => [
  ...job(id, 'ready', { group, turn }),
  put(`${keys.turn}${group}/${turn}`, id),
];

describe('every job is in one place', () => {
  test('ready, then claimed, then gone', () => {
    const claimed = [gone(`${keys.ready}1`), put(`${keys.claim}1`, { nonce: 'n' })];
    const done = [gone(`${keys.claim}1`), gone(`${keys.job}1`)];
    expect(broken({}, job('1', 'ready'), claimed, done)).toBeUndefined();
  });

  test.each([
    ['in two', [put(`${keys.claim}1`, {})], 'job 1 is in 2 places'],
    ['in none', [gone(`${keys.ready}1`)], 'job 1 is nowhere'],
    ['without payload', [gone(`${keys.job}1`)], 'job 1 has no payload'],
  ] as const)('%s', (_, changes, wrong) => {
    expect(broken({}, job('1', 'ready'), changes)).toMatch(wrong);
  });

  test('a light job has its payload along, until it goes where its id does not tell', () => {
    const light = [put(`${keys.ready}1`, { data: 'payload' })];
    const claimed = [gone(`${keys.ready}1`), put(`${keys.claim}1`, { data: 'payload' })];
    const delayed = gone(`${keys.claim}1`);
    const record = put(`${keys.job}1`, 'payload');
    expect(broken({}, light, claimed, [delayed])).toBeUndefined();
    expect(broken({}, light, claimed, [delayed, put(`${keys.at}5/1`, {}), record])).toBeUndefined();
    expect(broken({}, light, claimed, [delayed, put(`${keys.at}5/1`, {})])).toMatch('no payload');
    const along = put(`${keys.at}5/1`, { data: 'payload' });
    expect(broken({}, light, claimed, [delayed, along])).toMatch('has no record');
    expect(broken({}, light, [record])).toMatch('two payloads');
  });

  test('a successor waits in an order to stop, which needs a claim', () => {
    const order = put(`${keys.cancel}1`, { next: { id: '2', state: {} } });
    const next = [order, put(`${keys.job}2`, 'payload')];
    expect(broken({}, job('1', 'claim'), next)).toBeUndefined();
    expect(broken({}, job('1', 'ready'), next)).toMatch('which does not run');
    expect(broken({}, job('1', 'claim'), [order])).toMatch('job 2 has no payload');
  });
});

describe('turns of groups', () => {
  test('a turn names who has it', () => {
    expect(broken({}, withTurn('1', 'g'))).toBeUndefined();
    expect(broken({}, withTurn('1', 'g'), [gone(`${keys.turn}g/0`)])).toMatch('has turn 0');
    const left = [gone(`${keys.ready}1`), gone(`${keys.job}1`)];
    expect(broken({}, withTurn('1', 'g'), left)).toMatch('names 1, which is undefined');
    expect(broken({}, withTurn('1', 'g'), withTurn('2', 'g', 1))).toMatch('has 2 turns');
  });

  test('while a turn is free, somebody is called to pass it on', () => {
    const waits = [...withTurn('1', 'g'), ...inLine('2', 'g')];
    const done = [gone(`${keys.ready}1`), gone(`${keys.job}1`), gone(`${keys.turn}g/0`)];
    expect(broken({}, waits)).toBeUndefined();
    expect(broken({}, waits, done)).toMatch('nothing calls for it');
    expect(broken({}, waits, [...done, put(`${keys.pass}g`)])).toBeUndefined();
    expect(broken({ groupConcurrency: 2 }, waits)).toMatch('nothing calls for it');
  });

  test('nobody gets a turn past those who wait', () => {
    const waits = [...withTurn('1', 'g'), ...inLine('2', 'g'), ...inLine('3', 'g')];
    const done = [
      gone(`${keys.ready}1`),
      gone(`${keys.job}1`),
      gone(`${keys.turn}g/0`),
      put(`${keys.pass}g`),
    ];
    const given = (id: string) => [gone(`${keys.line}g/${id}`), ...withTurn(id, 'g')];
    expect(broken({}, waits, done, given('2'))).toBeUndefined();
    expect(broken({}, waits, done, given('3'))).toMatch('3 got a turn before');
    expect(broken({}, waits, done, withTurn('9', 'g'))).toMatch('9 got a turn before');
    // Whoever passes it on has not seen what came after it was called for.
    const late = [put(`${keys.job}0`, 'payload'), put(`${keys.line}g/!00/0`, { group: 'g' })];
    expect(broken({}, waits, done, late, given('2'))).toBeUndefined();
  });
});

test('a slot is held by the nonce of one claim', () => {
  const limits = { concurrency: 1 };
  const claimed = [...job('1', 'claim', { slot: 0, nonce: 'n' }), put(`${keys.slot}0`, 'n')];
  expect(broken(limits, claimed)).toBeUndefined();
  expect(broken(limits, claimed, [gone(`${keys.slot}0`)])).toMatch('does not have its slot');
  expect(broken(limits, claimed, [put(`${keys.slot}0`, 'm')])).toMatch('is held by nobody');
  expect(broken(limits, claimed, job('2', 'claim'))).toMatch('2 jobs run at a time');
});

test('a key names an unfinished job that has it', () => {
  const pushed = [...job('1', 'ready', { dedup: 'k' }), put(`${keys.dedup}k`, '1')];
  expect(broken({}, pushed)).toBeUndefined();
  const left = [gone(`${keys.ready}1`), gone(`${keys.job}1`)];
  expect(broken({}, pushed, left)).toMatch('does not have that key');
});

test('a parent waits for children that there are, or is let go', () => {
  const waits = [...job('1', 'blocked'), ...job('2', 'ready'), put(`${keys.wait}1/2`)];
  expect(broken({}, waits)).toBeUndefined();
  expect(broken({}, waits, [gone(`${keys.wait}1/2`)])).toMatch('nobody lets it go');
  expect(broken({}, waits, [gone(`${keys.wait}1/2`), put(`${keys.freed}1`)])).toBeUndefined();
  const space = new QueueSpace(keys, { groupConcurrency: 1 });
  space.apply({ revision: 2, changes: waits });
  expect(waitsForNobody([space])).toBeUndefined();
  space.apply({ revision: 3, changes: [gone(`${keys.ready}2`), gone(`${keys.job}2`)] });
  expect(waitsForNobody([space])).toMatch('waits for 2, which does not exist');
});
