import { expect, test } from 'vitest';
import { BatchAnswers } from '../../server/rpc/answers.ts';
import type { Answer } from '../../server/wire/conclave/v1/batch.ts';
import { SlowStream } from './slow-stream.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

const open = (takesParts: boolean) => {
  const stream = new SlowStream();
  const turns: (() => void)[] = [];
  const answers = new BatchAnswers(stream, {
    soon: (run) => turns.push(run),
    takesParts,
    onProgress: () => undefined,
  });
  const turn = () => {
    for (const run of turns.splice(0)) run();
  };
  const sendAll = () => {
    do turn();
    while (stream.sendOne() || turns.length > 0);
  };
  return { stream, answers, turn, sendAll };
};

const bytes = (length: number, fill: number) => Buffer.alloc(length, fill);
const small = Buffer.from('small');

/** What a client makes of it: the ids in the order in which they are complete, and the responses. */
const assemble = (messages: readonly Answer[][]) => {
  const parts = new Map<number, Buffer[]>();
  const responses = new Map<number, Buffer>();
  for (const { id, response, more } of messages.flat()) {
    const all = [...(parts.get(id) ?? []), response];
    parts.set(id, all);
    if (!more) responses.set(id, Buffer.concat(all));
  }
  return { order: [...responses.keys()], responses };
};

test('a small answer overtakes large ones, with parts and without, and all of them arrive', () => {
  for (const takesParts of [true, false]) {
    const { stream, answers, turn, sendAll } = open(takesParts);
    for (const id of [1, 2, 3]) answers.add(id, bytes(MIB + id, id), undefined);
    turn();
    stream.sendOne();
    answers.add(4, small, undefined);
    turn();
    sendAll();
    const { order, responses } = assemble(stream.sent);
    expect(order).toEqual(takesParts ? [4, 1, 2, 3] : [1, 4, 2, 3]);
    expect(responses.get(4)).toEqual(small);
    for (const id of [1, 2, 3]) {
      expect(responses.get(id)?.equals(bytes(MIB + id, id))).toBe(true);
    }
    expect(answers.isEmpty).toBe(true);
  }
});

test('an answer in pieces is sent in parts of them, or as a whole', () => {
  const pieces = [20, 256 * KIB, 100_000, 1, 64 * KIB].map((length, index) => bytes(length, index));
  for (const takesParts of [true, false]) {
    const { stream, answers, sendAll } = open(takesParts);
    answers.add(1, pieces, undefined);
    answers.add(2, bytes(MIB, 9), undefined);
    answers.add(3, [small, small], undefined);
    sendAll();
    const { order, responses } = assemble(stream.sent);
    expect(order).toEqual([3, 1, 2]);
    expect(responses.get(1)?.equals(Buffer.concat(pieces))).toBe(true);
    expect(responses.get(2)?.equals(bytes(MIB, 9))).toBe(true);
    expect(responses.get(3)?.toString()).toBe('smallsmall');
    const sizes = stream.sent.flat().map(({ response }) => response.length);
    expect(Math.max(...sizes) <= 64 * KIB).toBe(takesParts);
    // Nothing is left that the next answers would wait for.
    expect(answers.isEmpty).toBe(true);
    expect(answers.isFull).toBe(false);
  }
});

test('little of large answers is handed over before it is on its way', () => {
  const { stream, answers, turn } = open(true);
  for (const id of [1, 2, 3]) answers.add(id, bytes(10 * MIB, id), undefined);
  do {
    turn();
    expect(stream.handedBytes).toBeLessThan(150 * KIB);
  } while (stream.sendOne());
  expect(assemble(stream.sent).order).toEqual([1, 2, 3]);
});

test('large answers take turns, so that a shorter one is complete before a longer one', () => {
  const { stream, answers, sendAll } = open(true);
  answers.add(1, bytes(10 * MIB, 1), undefined);
  answers.add(2, bytes(100 * KIB, 2), undefined);
  answers.add(3, bytes(MIB, 3), undefined);
  sendAll();
  expect(assemble(stream.sent).order).toEqual([2, 3, 1]);
});

test('large answers go on while small ones never end', () => {
  const { stream, answers, turn } = open(true);
  answers.add(0, bytes(MIB, 1), undefined);
  for (let id = 1; id < 100; id += 1) {
    answers.add(id, small, undefined);
    turn();
    stream.sendOne();
  }
  expect(assemble(stream.sent).order).toContain(0);
});

test('a client that knows no parts gets whole answers, several in a message while it is not large', () => {
  const { stream, answers, sendAll } = open(false);
  for (const id of [1, 2, 3, 4]) answers.add(id, bytes(200 * KIB, id), undefined);
  answers.add(5, bytes(10 * MIB, 5), undefined);
  sendAll();
  expect(stream.sent.map((each) => each.map(({ id, more }) => [id, more]))).toEqual([
    [
      [1, false],
      [2, false],
    ],
    [
      [3, false],
      [4, false],
    ],
    [[5, false]],
  ]);
});

test('what is left of an answer that nobody waits for is not sent', () => {
  const { stream, answers, turn, sendAll } = open(true);
  answers.add(1, bytes(70 * MIB, 1), undefined);
  answers.add(2, bytes(10 * MIB, 2), undefined);
  turn();
  expect(answers.isFull).toBe(true);
  answers.drop(1);
  answers.drop(7);
  sendAll();
  expect(assemble(stream.sent).order).toEqual([2]);
  expect(stream.sent.flat().filter(({ id }) => id === 1).length).toBeLessThan(4);
  expect([answers.isEmpty, answers.isFull]).toEqual([true, false]);
});

test('it is full while more waits than a connection may hold, and no longer', () => {
  const { stream, answers, turn } = open(true);
  for (let id = 0; id < 6; id += 1) answers.add(id, bytes(10 * MIB, id), undefined);
  expect(answers.isFull).toBe(false);
  answers.add(6, bytes(10 * MIB, 6), undefined);
  expect(answers.isFull).toBe(true);
  let sent = 0;
  for (turn(); answers.isFull; turn()) {
    expect(stream.sendOne()).toBe(true);
    sent += 1;
  }
  expect(sent).toBeGreaterThan(10);
  expect(answers.isEmpty).toBe(false);
});
