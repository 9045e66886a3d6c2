/** What transactions promise when nothing breaks; see stm-troubles.test.ts for the rest. */
import { describe, expect, test } from 'vitest';
import { Mutex } from '../../recipes/locks/mutex.ts';
import { noMetrics } from '../../recipes/metrics.ts';
import { runStm, type StmFunction, type StmOptions } from '../../recipes/stm/stm.ts';
import type { StmTransaction } from '../../recipes/stm/stm-transaction.ts';
import { bytes, text } from '../../sdk/codec.ts';
import { storeMissing } from '../support/store.ts';
import { type Actor, useWorld } from './world.ts';

describe.skipIf(storeMissing)('stm', () => {
  const world = useWorld();
  const stm = <R>(actor: Actor, body: StmFunction<R>, options?: StmOptions): Promise<R> =>
    runStm(actor.context, body, options);
  const kinds = (actor: Actor) => actor.faults.take().map(({ kind }) => kind);
  const put = (key: string, value: unknown) => world.operator().kv.put(key, JSON.stringify(value));
  const read = async (key: string) => {
    const value = await world.operator().kv.getString(key);
    return value === null ? null : JSON.parse(value);
  };

  /** Somebody else does this before the next commit, so many times. */
  const disturb = (actor: Actor, act: (nth: number) => Promise<unknown>, times = 1) => {
    let done = 0;
    actor.faults.before = async ({ write }) => {
      if (!write || done === times) return;
      done += 1;
      await act(done);
    };
  };

  test('an exchange for each read and one to commit; reading alone commits nothing', async () => {
    const actor = await world.actor();
    const root = world.name();
    await put(`${root}/a`, 10);
    kinds(actor);
    const left = await stm(actor, async (tx) => {
      const a = (await tx.get<number>(`${root}/a`)) ?? 0;
      const b = (await tx.get<number>(`${root}/b`)) ?? 0;
      tx.put(`${root}/a`, a - 3);
      tx.put(`${root}/b`, b + 3);
      return a - 3;
    });
    expect(left).toBe(7);
    expect([await read(`${root}/a`), await read(`${root}/b`)]).toEqual([7, 3]);
    expect(kinds(actor)).toEqual(['list', 'list', 'txn']);
    const seen = await stm(actor, async (tx) => [
      await tx.get(`${root}/a`),
      await tx.get(`${root}/a`),
      await tx.range({ prefix: `${root}/` }),
      await tx.get(`${root}/c`),
    ]);
    expect(seen).toMatchObject([7, 7, [{ value: 7 }, { value: 3 }], undefined]);
    // The range has told that there is no c.
    expect(kinds(actor)).toEqual(['list', 'list']);
  });

  test('a conflict costs one exchange: what the next run reads comes with the refusal', async () => {
    const actor = await world.actor();
    const root = world.name();
    await put(`${root}/a`, 1);
    disturb(actor, (nth) => put(`${root}/a`, 100 * nth), 2);
    const seen: unknown[] = [];
    kinds(actor);
    await stm(actor, async (tx) => {
      const a = (await tx.get<number>(`${root}/a`)) ?? 0;
      const all = await tx.range<number>({ prefix: `${root}/` });
      seen.push([tx.attempt, a, all.length]);
      tx.put(`${root}/b${tx.attempt}`, a);
    });
    expect(seen).toEqual([
      [0, 1, 1],
      [1, 100, 1],
      [2, 200, 1],
    ]);
    expect(await read(`${root}/b2`)).toBe(200);
    expect(await read(`${root}/b0`)).toBeNull();
    expect(kinds(actor)).toEqual(['list', 'list', 'txn', 'txn', 'txn']);
  });

  test('reads see the own writes, ranges among them, whatever the limit and the direction', async () => {
    const actor = await world.actor();
    const root = world.name();
    for (const name of ['b', 'd', 'f', 'h']) await put(`${root}/${name}`, name);
    await stm(actor, async (tx) => {
      const names = async (options = {}) =>
        (await tx.range<string>({ prefix: `${root}/` }, options))
          .map(({ value }) => value)
          .join('');
      expect(await names({ limit: 2 })).toBe('bd');
      tx.delete(`${root}/b`);
      tx.put(`${root}/c`, 'c');
      tx.put(`${root}/d`, 'D');
      tx.put(`${root}/z`, 'z');
      expect(await names({ limit: 2 })).toBe('cD');
      expect(await names({ limit: 3, descending: true })).toBe('zhf');
      expect(await names()).toBe('cDfhz');
      expect(await names({ limit: 2 })).toBe('cD');
      tx.delete(`${root}/z`);
      expect(await names({ limit: 1, descending: true })).toBe('h');
      expect([await tx.get(`${root}/b`), await tx.get(`${root}/d`)]).toEqual([undefined, 'D']);
      tx.put(`${root}/b`, 'again');
      tx.delete(`${root}/c`);
      const part = await tx.range({ from: `${root}/b`, to: `${root}/d` });
      expect(part).toMatchObject([{ key: `${root}/b`, value: 'again' }]);
    });
    expect(await read(`${root}/b`)).toBe('again');
    expect(await read(`${root}/c`)).toBeNull();
  });

  test('serializable: whatever is read must be as it was, in every way that it can change', async () => {
    const actor = await world.actor();
    const changes = {
      written: (root: string) => put(`${root}/in/b`, 'other'),
      'written back': (root: string) => put(`${root}/in/b`, 'b'),
      deleted: (root: string) => world.operator().kv.delete(`${root}/in/b`),
      inserted: (root: string) => put(`${root}/in/bb`, 'new'),
      'inserted first': (root: string) => put(`${root}/in/a`, 'new'),
      'created where nothing was': (root: string) => put(`${root}/none`, 1),
    };
    for (const [what, change] of Object.entries(changes)) {
      const root = world.name();
      await put(`${root}/in/b`, 'b');
      await put(`${root}/in/c`, 'c');
      disturb(actor, () => change(root));
      let runs = 0;
      await stm(actor, async (tx) => {
        runs += 1;
        await tx.range({ prefix: `${root}/in/` });
        await tx.get(`${root}/none`);
        tx.put(`${root}/out`, runs);
      });
      expect([what, runs, await read(`${root}/out`)]).toEqual([what, 2, 2]);
    }
  });

  test('what is not read may change: other keys, and what lies behind a limit', async () => {
    const actor = await world.actor();
    const root = world.name();
    for (const name of ['b', 'd', 'f']) await put(`${root}/in/${name}`, name);
    disturb(actor, async () => {
      await put(`${root}/in/c`, 'behind');
      await put(`${root}/in/f`, 'behind');
      await put(`${root}/other`, 1);
    });
    let runs = 0;
    await stm(actor, async (tx) => {
      runs += 1;
      const [first] = await tx.range<string>({ prefix: `${root}/in/` }, { limit: 1 });
      tx.delete(`${root}/in/${first?.value}`);
      // Written, not read.
      tx.put(`${root}/other`, 2);
    });
    expect(runs).toBe(1);
    expect(await read(`${root}/in/b`)).toBeNull();
    expect(await read(`${root}/other`)).toBe(2);
  });

  test('an old key read and a newer one written do not conflict', async () => {
    const actor = await world.actor();
    const root = world.name();
    await put(`${root}/old`, 1);
    await put(`${root}/new`, 1);
    let runs = 0;
    await stm(actor, async (tx) => {
      runs += 1;
      await tx.get(`${root}/old`);
      tx.put(`${root}/new`, 2);
    });
    expect(runs).toBe(1);
  });

  test('all reads of a run show one revision, whatever happens between them', async () => {
    const actor = await world.actor();
    const root = world.name();
    await put(`${root}/a`, 1);
    await put(`${root}/b`, 1);
    for (const isolation of ['serializable', 'snapshot'] as const) {
      const seen = await stm(
        actor,
        async (tx) => {
          const a = await tx.get<number>(`${root}/a`);
          await put(`${root}/b`, 2);
          await put(`${root}/c`, 2);
          const all = await tx.range<number>({ prefix: `${root}/` });
          return [a, await tx.get(`${root}/b`), all.length];
        },
        { isolation },
      );
      expect(seen).toEqual([1, isolation === 'snapshot' ? 2 : 1, isolation === 'snapshot' ? 3 : 2]);
    }
    // Two first reads at a time settle one revision together.
    const [a, b] = await stm(actor, (tx) =>
      Promise.all([tx.get(`${root}/a`), tx.get(`${root}/b`)]),
    );
    expect([a, b]).toEqual([1, 2]);
  });

  test('write skew: impossible when serializable, possible under snapshot, where no update is lost', async () => {
    const [one, two] = [await world.actor(), await world.actor()];
    const leave = (actor: Actor, me: string, other: string, isolation: StmOptions['isolation']) =>
      stm(
        actor,
        async (tx) => {
          const [mine, theirs] = [await tx.get(me), await tx.get(other)];
          if (mine === true && theirs === true) tx.put(me, false);
        },
        { ...(isolation === undefined ? {} : { isolation }) },
      );
    for (const isolation of ['serializable', 'snapshot'] as const) {
      const root = world.name();
      await put(`${root}/a`, true);
      await put(`${root}/b`, true);
      disturb(one, () => leave(two, `${root}/b`, `${root}/a`, isolation));
      await leave(one, `${root}/a`, `${root}/b`, isolation);
      const onCall = [await read(`${root}/a`), await read(`${root}/b`)].filter(Boolean).length;
      expect([isolation, onCall]).toEqual([isolation, isolation === 'serializable' ? 1 : 0]);

      const sum = `${root}/sum`;
      const add = (actor: Actor) =>
        stm(actor, async (tx) => tx.put(sum, ((await tx.get<number>(sum)) ?? 0) + 1), {
          isolation,
        });
      disturb(one, () => add(two));
      await add(one);
      expect(await read(sum)).toBe(2);
    }
  });

  test('snapshot: a key written without reading it conflicts with another write of it', async () => {
    const actor = await world.actor();
    const root = world.name();
    disturb(actor, () => put(`${root}/blind`, 'theirs'));
    let runs = 0;
    await stm(
      actor,
      async (tx) => {
        runs += 1;
        await tx.get(`${root}/other`);
        tx.put(`${root}/blind`, 'mine');
      },
      { isolation: 'snapshot' },
    );
    expect([runs, await read(`${root}/blind`)]).toEqual([2, 'mine']);
  });

  test('read-committed: each read shows the latest, and what is written is written together', async () => {
    const actor = await world.actor();
    const root = world.name();
    await put(`${root}/a`, 1);
    disturb(actor, () => put(`${root}/a`, 5));
    let runs = 0;
    const seen = await stm(
      actor,
      async (tx) => {
        runs += 1;
        const first = await tx.get(`${root}/a`);
        await put(`${root}/a`, 2);
        tx.put(`${root}/b`, 1);
        tx.put(`${root}/c`, 1);
        return [first, await tx.get(`${root}/a`), await tx.get(`${root}/b`)];
      },
      { isolation: 'read-committed' },
    );
    expect([runs, seen]).toEqual([1, [1, 2, 1]]);
    const { kvs } = await world.operator().kv.list({ from: `${root}/b`, to: `${root}/d` });
    expect(kvs[0]?.modRevision).toBe(kvs[1]?.modRevision);
  });

  test('what the function throws is thrown, and nothing is written', async () => {
    const actor = await world.actor();
    const root = world.name();
    await put(`${root}/a`, 1);
    kinds(actor);
    const failing = stm(actor, async (tx) => {
      await tx.get(`${root}/a`);
      tx.put(`${root}/a`, 2);
      throw new RangeError('not enough');
    });
    await expect(failing).rejects.toThrow(new RangeError('not enough'));
    expect(await read(`${root}/a`)).toBe(1);
    expect(kinds(actor)).toEqual(['list']);
  });

  test('codecs belong to keys, keys may be bytes, and puts may be leased', async () => {
    const actor = await world.actor();
    const root = world.name();
    const raw = Buffer.concat([Buffer.from(`${root}/`), Buffer.from([0xff, 0x00])]);
    await stm(actor, async (tx) => {
      tx.put(`${root}/text`, 'plain', { codec: text() });
      tx.put(raw, Buffer.from([1, 2]), { codec: bytes() });
      tx.put(`${root}/leased`, 1, { lease: actor.session.lease });
      expect(await tx.get(`${root}/text`, { codec: text() })).toBe('plain');
    });
    const { kv } = world.operator();
    expect(await kv.getString(`${root}/text`)).toBe('plain');
    expect((await kv.get(raw))?.value).toEqual(Buffer.from([1, 2]));
    expect((await kv.get(`${root}/leased`))?.lease).toBe(actor.session.lease);
    const found = await stm(actor, (tx) => tx.range({ from: raw }, { codec: bytes(), limit: 1 }));
    expect(found[0]?.keyBytes).toEqual(raw);
    await expect(stm(actor, (tx) => tx.get(`${root}/text`))).rejects.toMatchObject({
      code: 'CODEC',
      message: expect.stringContaining(`${root}/text`),
    });
  });

  test('a held lock guards a transaction at no extra exchange, as long as it is held', async () => {
    const actor = await world.actor();
    const root = world.name();
    const lock = await new Mutex(actor.context, root).acquire();
    kinds(actor);
    const guarded = (effect: string) =>
      stm(actor, (tx) => {
        tx.guard(lock);
        tx.put(`${root}/effect`, effect);
      });
    await guarded('held');
    expect(kinds(actor)).toEqual(['txn']);
    // Even what writes nothing is held to it.
    await stm(actor, (tx) => tx.guard(lock));
    disturb(actor, () => world.operator().kv.delete(lock.key));
    await expect(guarded('lost')).rejects.toMatchObject({
      code: 'NOT_HELD',
      outcome: 'not-applied',
      message: expect.stringContaining(lock.key),
    });
    expect(await read(`${root}/effect`)).toBe('held');
    await lock.release().catch(() => undefined);
    await expect(guarded('released')).rejects.toMatchObject({
      code: expect.stringMatching(/^(RELEASED|LOCK_LOST)$/),
    });
  });

  test('too many operations are refused before anything is sent; as many as fit pass', async () => {
    const actor = await world.actor();
    const root = world.name();
    const writes = (count: number) =>
      stm(actor, (tx) => {
        for (let index = 0; index < count; index++) tx.put(`${root}/${1000 + index}`, index);
      });
    kinds(actor);
    await expect(writes(126)).rejects.toMatchObject({
      code: 'TOO_MANY_OPERATIONS',
      outcome: 'not-applied',
      message: expect.stringMatching(/126 writes.* room for 125/),
    });
    expect(kinds(actor)).toEqual([]);
    // With a lost answer the fence has to fit as well.
    actor.faults.next('lose-answer');
    await writes(125);
    expect(await world.operator().kv.count({ prefix: `${root}/` })).toBe(125n);
    await put(`${root}/2000`, 0);
    const reads = (limit: number) =>
      stm(actor, async (tx) => {
        await tx.range({ prefix: `${root}/` }, { limit });
        await tx.get(`${root}/none`);
        tx.put(`${root}/seen`, limit);
      });
    await expect(reads(125)).rejects.toMatchObject({
      code: 'TOO_MANY_OPERATIONS',
      message: expect.stringMatching(/127 conditions .*room for 126/),
    });
    // Its first copy comes late, the second is refused with a fence, the next run passes.
    actor.faults.next('linger');
    disturb(actor, () => put(`${root}/none`, 1));
    await reads(124);
    await actor.faults.deliver();
    expect(await read(`${root}/seen`)).toBe(124);
  });

  test('many tasks of two sessions lose nothing, and tell how often they got in each other’s way', async () => {
    let conflicts = 0;
    const outcomes: string[] = [];
    const metrics = {
      ...noMetrics,
      contended: () => {
        conflicts += 1;
      },
      waited: ({ recipe, name, outcome }: Parameters<typeof noMetrics.waited>[0]) => {
        outcomes.push(`${recipe} ${name} ${outcome}`);
      },
    };
    const actors = [await world.actor({ metrics }), await world.actor({ metrics })] as const;
    const root = world.name();
    const runs = Array.from({ length: 10 }, (_, index) =>
      stm(
        actors[index % 2 === 0 ? 0 : 1],
        async (tx) => tx.put(`${root}/sum`, ((await tx.get<number>(`${root}/sum`)) ?? 0) + 1),
        { retries: 200, name: 'sum' },
      ),
    );
    await Promise.all(runs);
    expect(await read(`${root}/sum`)).toBe(10);
    expect(conflicts).toBeGreaterThan(0);
    expect(outcomes).toEqual(Array.from({ length: 10 }, () => 'stm sum acquired'));
    // One record of each session is left; the next transaction takes it along.
    const { kvs } = await world.operator().kv.list({ prefix: 'conclave/stm/' });
    expect(kvs.length).toBeLessThanOrEqual(12);
  });

  test('keys that are not well-formed would be those of others: they are refused', async () => {
    const actor = await world.actor();
    const lone = `${world.name()}\ud800`;
    const bodies: StmFunction<unknown>[] = [
      (tx) => tx.get(lone),
      (tx) => tx.put(lone, 1),
      (tx) => tx.delete(lone),
      (tx) => tx.range({ prefix: lone }),
      (tx) => tx.range({ from: lone }),
      (tx) => tx.range({ from: 'a', to: lone }),
      (tx) => tx.range({ prefix: 5 as never }),
      (tx) => tx.get(undefined as never),
    ];
    for (const body of bodies) {
      await expect(stm(actor, body)).rejects.toThrow(/must be a well-formed text or bytes/);
    }
    expect(kinds(actor)).toEqual([]);
  });

  test('names options that do not exist, and what is of another type', async () => {
    const actor = await world.actor();
    const wrong: [StmFunction<unknown>, RegExp][] = [
      [(tx) => tx.get('a', { codecs: 1 } as object), /did you mean 'codec'/],
      [(tx) => tx.get('a', { codec: {} as never }), /'codec'/],
      [(tx) => tx.range({ prefix: 'a' }, { limt: 1 } as object), /did you mean 'limit'/],
      [(tx) => tx.put('a', 1, { laese: 1n } as object), /did you mean 'lease'/],
      [(tx) => tx.put('a', 1, { lease: 1 as never }), /'lease'/],
      [(tx) => tx.put('a', 1, null as never), /'options'/],
      [(tx) => tx.guard(undefined as never), /'held.guard'/],
    ];
    for (const [body, told] of wrong) {
      const error = await stm(actor, body).catch((reason: unknown) => reason);
      expect(error).toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringMatching(told),
      });
    }
    await expect(stm(actor, () => 1, null as never)).rejects.toThrow(/'options'/);
    await expect(stm(actor, () => 1, { name: 5 as never })).rejects.toThrow(/'name'/);
    await expect(stm(actor, 5 as never)).rejects.toThrow(/'body'/);
  });

  test('wrong use is told by name', async () => {
    const actor = await world.actor();
    const fails = (body: unknown, options: object) =>
      stm(actor, body as StmFunction<unknown>, options as StmOptions);
    for (const [body, options, message] of [
      ['x', {}, 'body'],
      [() => 1, { isolation: 'serialisable' }, 'isolation'],
      [() => 1, { retries: -1 }, 'retries'],
      [() => 1, { timeout: 'soon' }, 'timeout'],
      [() => 1, { maxOperations: 3 }, 'maxOperations'],
      [() => 1, { isolaton: 'snapshot' }, "did you mean 'isolation'"],
      [(tx: StmTransaction) => tx.get(''), {}, 'key'],
      [(tx: StmTransaction) => tx.put('', 1), {}, 'key'],
      [(tx: StmTransaction) => tx.range('a' as never), {}, 'range'],
      [(tx: StmTransaction) => tx.range({ all: true }, { limit: 0 }), {}, 'limit'],
    ] as const) {
      await expect(fails(body, options)).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringContaining(message),
      });
    }
    let kept: StmTransaction | undefined;
    await stm(actor, (tx) => {
      kept = tx;
    });
    expect(() => kept?.put('x', 1)).toThrow(expect.objectContaining({ code: 'RELEASED' }));
    await expect(kept?.get('x')).rejects.toMatchObject({ code: 'RELEASED' });
    expect(await stm(actor, () => 'conflict')).toBe('conflict');
  });
});
