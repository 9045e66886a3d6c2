/** Work that is done together, and transactions that travel together. */
import { describe, expect, test } from 'vitest';
import { Together } from '../../recipes/common/together.ts';
import { TxnsTogether } from '../../recipes/common/txns-together.ts';
import { afterPromises, afterThisTurn } from '../../sdk/clock.ts';
import { ConclaveError } from '../../sdk/errors.ts';
import { compare, op } from '../../sdk/txn.ts';
import { storeMissing } from '../support/store.ts';
import { useWorld } from './world.ts';

const turn = () => new Promise<void>(afterThisTurn);

describe('work done together', () => {
  /** Work that is over when `answer` is called. */
  const heldBack = (most: number) => {
    const begun: (readonly number[])[] = [];
    const answers: (() => void)[] = [];
    const together = new Together<number>(most, (items) => {
      begun.push(items);
      return new Promise((resolve) => answers.push(resolve));
    });
    return { together, begun, answer: () => answers.shift()?.() };
  };

  test('what is asked for in one turn is done at once, in its order', async () => {
    const { together, begun } = heldBack(10);
    for (const item of [1, 2, 3]) together.add(item);
    void Promise.resolve().then(() => together.add(4));
    // What has itself come together first still belongs to the turn.
    afterPromises(() => void Promise.resolve().then(() => together.add(5)));
    await turn();
    expect(begun).toEqual([[1, 2, 3, 4, 5]]);
  });

  test('at most so many at a time, two times under way; the rest goes together when one is done', async () => {
    const { together, begun, answer } = heldBack(2);
    for (const item of [1, 2, 3, 4, 5]) together.add(item);
    await turn();
    together.add(6);
    await turn();
    expect(begun).toEqual([
      [1, 3],
      [2, 4],
    ]);
    answer();
    await turn();
    expect(begun[2]).toEqual([5, 6]);
  });
});

describe.skipIf(storeMissing)('transactions that travel together', () => {
  const world = useWorld();

  test('each has conditions, an outcome and answers of its own, in one exchange', async () => {
    const actor = await world.actor();
    const { kv } = actor.client;
    const prefix = `${world.name()}/`;
    await kv.put(`${prefix}taken`, 'before');
    actor.faults.take();
    const together = new TxnsTogether(actor.client, '2s');
    const keys = ['a', 'taken', ...Array.from({ length: 38 }, (_, index) => `${index}`)];
    const results = await Promise.all(
      keys.map((key) =>
        together.commit(
          kv
            .txn()
            .if(compare.createRevision(prefix + key, '==', 0n))
            .then(op.put(prefix + key, key), op.get(`${prefix}taken`))
            .else(op.get(prefix + key)),
        ),
      ),
    );
    expect(actor.faults.take()).toHaveLength(1);
    expect(results.map(({ succeeded }) => succeeded)).toEqual(keys.map((key) => key !== 'taken'));
    const revision = results[0]?.revision;
    expect(revision).toBeGreaterThan(0n);
    expect(results.every((result) => result.revision === revision)).toBe(true);
    const [found] = results[1]?.responses ?? [];
    expect(Buffer.from((found as { value: Uint8Array }).value).toString()).toBe('before');
    expect(await kv.count({ prefix })).toBe(40n);
  });

  test('when the store refuses them together, each goes alone and only the bad one fails', async () => {
    const actor = await world.actor();
    const { kv } = actor.client;
    const prefix = `${world.name()}/`;
    const together = new TxnsTogether(actor.client, '2s');
    const outcomes = await Promise.allSettled(
      ['a', '', 'b'].map((key) => together.commit(kv.txn().then(op.put(key && prefix + key, 'x')))),
    );
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect(await kv.count({ prefix })).toBe(2n);
  });

  test('when an answer is lost, each is told so, and nothing is repeated behind its back', async () => {
    const actor = await world.actor();
    const { kv } = actor.client;
    const prefix = `${world.name()}/`;
    const together = new TxnsTogether(actor.client, '2s');
    actor.faults.next('lose-answer');
    const outcomes = await Promise.allSettled(
      ['a', 'b'].map((key) => together.commit(kv.txn().then(op.put(prefix + key, 'x')))),
    );
    for (const outcome of outcomes) {
      expect(outcome).toMatchObject({ status: 'rejected', reason: { outcome: 'unknown' } });
      expect((outcome as PromiseRejectedResult).reason).toBeInstanceOf(ConclaveError);
    }
    expect(actor.faults.take().filter(({ write }) => write)).toHaveLength(1);
  });
});
