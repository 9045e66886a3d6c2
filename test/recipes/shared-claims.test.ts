/** Claims that the slots of a worker ask for together. */
import { expect, test } from 'vitest';
import type { Claim } from '../../recipes/queue/claim.ts';
import { SharedClaims } from '../../recipes/queue/shared-claims.ts';
import { afterPromises } from '../../sdk/clock.ts';

const { signal } = new AbortController();

/** Answers each request for claims with the next of these counts, or error. */
function consumerOf(answers: (number | Error)[], isNarrow = false) {
  const asked: number[] = [];
  let made = 0;
  const claimMany = async (count: number) => {
    asked.push(count);
    const answer = answers.shift() ?? 0;
    if (answer instanceof Error) throw answer;
    return Array.from({ length: answer }, () => ({ id: `${++made}` }) as Claim<string>);
  };
  return { asked, claimMany, isNarrow };
}

const idsOf = async (claims: readonly Promise<Claim<string> | null>[]) =>
  (await Promise.all(claims)).map((claim) => claim?.id ?? null);

test('slots of one turn ask together, and get their jobs in the order in which they asked', async () => {
  const consumer = consumerOf([3]);
  const shared = new SharedClaims(consumer, signal);
  expect(await idsOf([shared.next(), shared.next(), shared.next()])).toEqual(['1', '2', '3']);
  expect(consumer.asked).toEqual([3]);
});

test('at most 32 are asked for at once, and two times', async () => {
  const consumer = consumerOf([32, 32, 8]);
  const shared = new SharedClaims(consumer, signal);
  const ids = await idsOf(Array.from({ length: 72 }, () => shared.next()));
  expect(ids).toEqual(Array.from({ length: 72 }, (_, index) => `${index + 1}`));
  expect(consumer.asked).toEqual([32, 32, 8]);
});

test('who got none while others got some asks again: only no claim at all means that there is none', async () => {
  const consumer = consumerOf([1, 1, 0]);
  const shared = new SharedClaims(consumer, signal);
  expect(await idsOf([shared.next(), shared.next(), shared.next()])).toEqual(['1', '2', null]);
  expect(consumer.asked).toEqual([3, 2, 1]);
});

test('an error is told to all who asked, and to nobody else', async () => {
  const consumer = consumerOf([new Error('no store'), 1]);
  const shared = new SharedClaims(consumer, signal);
  const failed = [shared.next(), shared.next()];
  for (const one of failed) await expect(one).rejects.toThrow('no store');
  expect(await idsOf([shared.next()])).toEqual(['1']);
});

test('who asks while two answers are awaited asks after one of them', async () => {
  const consumer = consumerOf([1, 1, 3]);
  const shared = new SharedClaims(consumer, signal);
  const asked = [];
  for (let times = 1; times <= 2; times++) {
    asked.push(shared.next());
    while (consumer.asked.length < times) await new Promise<void>(afterPromises);
  }
  const later = [shared.next(), shared.next(), shared.next()];
  expect(await idsOf([...asked, ...later])).toEqual(['1', '2', '3', '4', '5']);
  expect(consumer.asked).toEqual([1, 1, 3]);
});

test('where claims get in each other’s way one is awaited before the next', async () => {
  const consumer = consumerOf([1, 2], true);
  const shared = new SharedClaims(consumer, signal);
  const first = shared.next();
  while (consumer.asked.length === 0) await new Promise<void>(afterPromises);
  expect(await idsOf([first, shared.next(), shared.next()])).toEqual(['1', '2', '3']);
  expect(consumer.asked).toEqual([1, 2]);
});
