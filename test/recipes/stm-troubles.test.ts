/** Transactions whose answers, sessions, clocks and revisions go wrong. */
import { describe, expect, test } from 'vitest';
import { stmPrefix } from '../../recipes/names.ts';
import { runStm, type StmFunction, type StmOptions } from '../../recipes/stm/stm.ts';
import type { ListOptions } from '../../sdk/kv.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { storeMissing } from '../support/store.ts';
import { type Actor, eventually, useWorld } from './world.ts';

describe.skipIf(storeMissing)('stm in trouble', () => {
  const world = useWorld();
  const stm = <R>(actor: Actor, body: StmFunction<R>, options?: StmOptions): Promise<R> =>
    runStm(actor.context, body, options);
  const put = (key: string, value: unknown) => world.operator().kv.put(key, JSON.stringify(value));
  const read = async (key: string) => {
    const value = await world.operator().kv.getString(key);
    return value === null ? null : JSON.parse(value);
  };
  const add =
    (key: string, amount = 1): StmFunction<void> =>
    async (tx) =>
      tx.put(key, ((await tx.get<number>(key)) ?? 0) + amount);

  test('drop the reply of every write: each transaction takes effect once, whoever writes next', async () => {
    const [actor, other] = [await world.actor(), await world.actor()];
    const sum = `${world.name()}/sum`;
    for (const losses of [1, 2, 3]) {
      actor.faults.next('lose-answer', ({ write }) => write, losses);
      let overtaken = false;
      actor.faults.after = async ({ write }) => {
        if (!write || overtaken) return;
        overtaken = true;
        await stm(other, add(sum, 100));
      };
      await stm(actor, add(sum));
      actor.faults.heal();
    }
    expect(await read(sum)).toBe(303);
  });

  test('a copy that comes late takes no effect, though all that it saw is so again', async () => {
    const actor = await world.actor();
    const root = world.name();
    actor.faults.next('linger');
    let disturbed = false;
    actor.faults.before = async ({ write }) => {
      if (!write || disturbed) return;
      disturbed = true;
      await put(`${root}/taken`, 'by another');
    };
    const outcome = await stm(actor, async (tx) => {
      if ((await tx.get(`${root}/taken`)) !== undefined) return 'taken';
      tx.put(`${root}/taken`, 'mine');
      return 'mine';
    });
    expect(outcome).toBe('taken');
    await world.operator().kv.delete(`${root}/taken`);
    await actor.faults.deliver();
    expect(await read(`${root}/taken`)).toBeNull();
  });

  test('a refusal whose answer is lost is no success', async () => {
    const actor = await world.actor();
    const sum = `${world.name()}/sum`;
    let writes = 0;
    // The first never arrives, the second is refused and its answer lost, the third finds the fence.
    actor.faults.plan = ({ write }) => {
      if (!write) return 'pass';
      writes += 1;
      return (['linger', 'lose-answer'] as const)[writes - 1] ?? 'pass';
    };
    actor.faults.before = async ({ write }) => {
      if (write && writes === 2) await put(sum, 50);
    };
    await stm(actor, add(sum));
    await actor.faults.deliver();
    expect(await read(sum)).toBe(51);
  });

  test('a read that gets no answer is repeated; a refused one as well', async () => {
    const actor = await world.actor();
    const sum = `${world.name()}/sum`;
    for (const fate of ['lose-answer', 'refuse'] as const) {
      actor.faults.next(fate, ({ kind }) => kind === 'list', 2);
      await stm(actor, add(sum));
    }
    expect(await read(sum)).toBe(2);
  });

  test('kill the session at every step: it ends at once, and says what became of it', async () => {
    const root = world.name();
    for (const step of ['before', 'in the function', 'in a wait', 'at the commit'] as const) {
      const actor = await world.actor();
      const end = () => actor.session.close();
      if (step === 'before') await end();
      actor.faults.before = async ({ write }) => {
        if (write && step === 'at the commit')
          await world.operator().leases.revoke(actor.session.lease);
      };
      let signal: AbortSignal | undefined;
      const ended = stm(actor, async (tx) => {
        signal = tx.signal;
        await tx.get(`${root}/a`);
        tx.put(`${root}/a`, step);
        if (step === 'in the function') await end();
        if (step === 'in a wait') {
          void end();
          await new Promise(() => undefined);
        }
      });
      await expect(ended).rejects.toMatchObject({
        code: expect.stringMatching(/^(SESSION_LOST|CLOSED)$/),
        outcome: 'not-applied',
      });
      if (step === 'in the function' || step === 'in a wait') expect(signal?.aborted).toBe(true);
    }
    expect(await read(`${root}/a`)).toBeNull();
  });

  test('freeze the process past its TTL: nothing is committed after that', async () => {
    const clock = new ManualClock();
    const actor = await world.actor({ clock, ttl: '10s' });
    const sum = `${world.name()}/sum`;
    const frozen = stm(actor, async (tx) => {
      await add(sum)(tx);
      clock.freeze(11_000);
    });
    await expect(frozen).rejects.toMatchObject({ code: 'SESSION_LOST', outcome: 'not-applied' });
    expect(await read(sum)).toBeNull();
  });

  test('delete own key by hand: an op-record that is removed once it was told changes nothing', async () => {
    const actor = await world.actor();
    const sum = `${world.name()}/sum`;
    for (let round = 0; round < 3; round++) {
      await stm(actor, add(sum));
      await world.operator().kv.delete({ prefix: stmPrefix });
    }
    expect(await read(sum)).toBe(3);
    await actor.session.close();
    await eventually('no record', async () => {
      return (
        (await world.operator().kv.count({ prefix: `${stmPrefix}op/${actor.session.id}` })) === 0n
      );
    });
  });

  test('transactions that fill the room leave no more behind than others', async () => {
    const actor = await world.actor();
    const root = world.name();
    const records = () =>
      world.operator().kv.count({ prefix: `${stmPrefix}op/${actor.session.id}` });
    for (let round = 0; round < 4; round++) {
      await stm(actor, (tx) => {
        for (let index = 0; index < 125; index++) tx.put(`${root}/${index}`, round);
      });
      expect(await records()).toBe(1n);
    }
    // The least that fits: the record, the removal of another, a write.
    for (let round = 0; round < 3; round++) {
      await stm(actor, (tx) => tx.put(`${root}/0`, round), { maxOperations: 4 });
      expect(await records()).toBe(1n);
    }
  });

  test('compact under a run: it runs again on what can be read, even if the function ignores it', async () => {
    const actor = await world.actor();
    const root = world.name();
    await put(`${root}/a`, 1);
    for (const ignores of [false, true]) {
      let runs = 0;
      const seen = await stm(actor, async (tx) => {
        runs += 1;
        const a = await tx.get<number>(`${root}/a`);
        if (runs === 1) {
          const { revision } = await put(`${root}/b`, 2);
          await world.operator().kv.compact(revision);
        }
        const reading = tx.get<number>(`${root}/b`);
        const b = await (ignores ? reading.catch(() => -1) : reading);
        tx.put(`${root}/seen`, b);
        return [a, b];
      });
      expect([runs, seen]).toEqual([2, [1, 2]]);
      expect(await read(`${root}/seen`)).toBe(2);
    }
  });

  test('restore an old snapshot: a run on revisions that are gone runs again', async () => {
    const actor = await world.actor();
    const root = world.name();
    await put(`${root}/a`, 1);
    const { kv } = actor.client;
    const list = kv.list.bind(kv);
    // The first answer came from a store that was at a revision which this one has not reached.
    let lied = false;
    kv.list = async (range, options?: ListOptions) => {
      const result = await list(range, options);
      if (lied) return result;
      lied = true;
      return { ...result, revision: result.revision + 1_000n };
    };
    let runs = 0;
    await stm(actor, async (tx) => {
      runs += 1;
      await tx.get(`${root}/a`);
      await tx.get(`${root}/b`);
      tx.put(`${root}/b`, runs);
    });
    expect([runs, await read(`${root}/b`)]).toEqual([2, 2]);
  });

  test('re-grant a lease id: a transaction whose end is unknown says so, and takes effect once', async () => {
    const actor = await world.actor();
    const sum = `${world.name()}/sum`;
    const { lease } = actor.session;
    actor.faults.plan = ({ write }) => (write ? 'linger' : 'pass');
    const left = stm(actor, add(sum)).catch((error: unknown) => error);
    await eventually('the commit', () => actor.faults.calls.some(({ write }) => write));
    await actor.session.close();
    expect(await left).toMatchObject({ code: 'CLOSED', outcome: 'unknown' });
    // What is still under way arrives twice, when there is a lease of that id again.
    await world.operator().leases.grant('30s', { id: lease });
    const sent = actor.faults.calls.find(({ write }) => write)?.parts;
    for (const expected of [true, false]) {
      const copy = world
        .operator()
        .kv.txn()
        .if(...(sent?.compares ?? []));
      const { succeeded } = await copy.then(...(sent?.success ?? [])).commit();
      expect(succeeded).toBe(expected);
    }
    expect(await read(sum)).toBe(1);
    await world.operator().leases.revoke(lease);
  });

  test('two tasks, one session: they exclude each other’s effects like anybody else', async () => {
    const actor = await world.actor();
    const sum = `${world.name()}/sum`;
    await Promise.all(
      Array.from({ length: 6 }, (_, index) => stm(actor, add(sum, 10 ** index), { retries: 100 })),
    );
    expect(await read(sum)).toBe(111_111);
  });

  test('retries are bounded, at first at once and then with jittered pauses', async () => {
    const actor = await world.actor();
    const sum = `${world.name()}/sum`;
    actor.faults.before = async ({ write }) => {
      if (write) await put(sum, 0);
    };
    let runs = 0;
    const failing = stm(
      actor,
      async (tx) => {
        runs += 1;
        await add(sum)(tx);
      },
      { retries: 3, name: 'busy' },
    );
    await expect(failing).rejects.toMatchObject({
      code: 'CONFLICT',
      retryable: true,
      outcome: 'not-applied',
      message: expect.stringContaining("stm 'busy' first, 4 times"),
    });
    expect(runs).toBe(4);
  });

  test('a signal and a timeout end it, with what is known of its effect', async () => {
    const clock = new ManualClock();
    const actor = await world.actor({ clock, ttl: '60s' });
    const sum = `${world.name()}/sum`;
    const never = () => new Promise<void>(() => undefined);
    const late = stm(actor, never, { timeout: '2s', name: 'slow' });
    clock.advance(2_001);
    await expect(late).rejects.toMatchObject({
      code: 'TIMEOUT',
      outcome: 'not-applied',
      message: "'slow' took longer than 2000 ms",
    });
    const controller = new AbortController();
    const given = stm(actor, never, { signal: controller.signal });
    controller.abort(new Error('enough'));
    await expect(given).rejects.toMatchObject({ code: 'ABORTED', outcome: 'not-applied' });
    actor.faults.plan = ({ write }) => (write ? 'lose-answer' : 'pass');
    const unknown = stm(actor, add(sum), { timeout: '2s' });
    let ended: unknown;
    unknown.catch((error: unknown) => {
      ended = error;
    });
    await eventually('the write', async () => (await read(sum)) === 1);
    await eventually('the end', () => {
      clock.advance(100);
      return ended !== undefined;
    });
    expect(ended).toMatchObject({ code: 'TIMEOUT', outcome: 'unknown' });
    expect(await read(sum)).toBe(1);
  });

  test('a lease that is gone is said to be, and nothing is written', async () => {
    const actor = await world.actor();
    const root = world.name();
    const lease = await world.operator().leases.grant('30s');
    await world.operator().leases.revoke(lease.id);
    const leased = stm(actor, (tx) => {
      tx.put(`${root}/a`, 1, { lease: lease.id });
      tx.put(`${root}/b`, 1);
    });
    await expect(leased).rejects.toMatchObject({
      code: 'LEASE_NOT_FOUND',
      outcome: 'not-applied',
      message: expect.stringContaining(BigInt.asUintN(64, lease.id).toString(16)),
    });
    expect(await read(`${root}/b`)).toBeNull();
  });
});
