/** What goes wrong around any election, in both forms. */
import { describe, expect, test } from 'vitest';
import { electionKeys, standingsOf } from '../../recipes/election/candidates.ts';
import { Election } from '../../recipes/election/election.ts';
import type { ElectionOptions } from '../../recipes/election/election-options.ts';
import { noMetrics } from '../../recipes/metrics.ts';
import { electionPrefix } from '../../recipes/names.ts';
import { connect } from '../../sdk/connect.ts';
import type { Call } from '../support/faulty-kv.ts';
import { storeMissing } from '../support/store.ts';
import { startRewindableStore } from './rewindable-store.ts';
import { type Actor, compactTo, eventually, useWorld } from './world.ts';

const forms: readonly (readonly [string, ElectionOptions<string>])[] = [
  ['first come, first served', {}],
  ['by priority', { priority: 1, vacancyStep: 10 }],
];

describe.skipIf(storeMissing).each(forms)('election %s', (_, options) => {
  const world = useWorld();
  const of = (actor: Actor, name: string) => new Election<string>(actor.context, name, options);
  const standing = (name: string, count: number) =>
    eventually(`${count} candidates`, async () => {
      const keys = electionKeys(electionPrefix(name));
      const { kvs } = await world.operator().kv.list({ prefix: keys.prefix });
      return standingsOf(keys, kvs).contenders.length === count;
    });
  const compactNow = async () => {
    const { kv } = world.operator();
    const { revision } = await kv.put('filler', 'x');
    await compactTo(kv, revision);
  };

  test('drop the reply of every write', async () => {
    const name = world.name();
    for (let nth = 1; nth <= 5; nth++) {
      const a = await world.actor();
      let seen = 0;
      a.faults.plan = ({ write }) => {
        seen += write ? 1 : 0;
        return write && seen === nth ? 'lose-answer' : 'pass';
      };
      const first = await of(a, name).campaign({ value: 'a' });
      await first.proclaim('A');
      const waiting = of(a, name).campaign({ value: 'b' });
      await standing(name, 2);
      await first.resign().catch(() => undefined);
      const second = await waiting;
      expect(second.term > first.term).toBe(true);
      await second.resign().catch(() => undefined);
      await standing(name, 0);
    }
  });

  test('kill the session at every step of a wait', async () => {
    const a = await world.actor();
    for (const step of ['before the enqueue', 'after it', 'while waiting', 'as leader'] as const) {
      const name = world.name();
      const b = await world.actor({ ttl: '2s' });
      const leader = await of(a, name).campaign({ value: 'a' });
      if (step === 'before the enqueue') {
        b.faults.before = ({ write }) => (write ? b.killLease() : undefined);
      }
      const waiting = of(b, name).campaign({ value: 'b' });
      waiting.catch(() => undefined);
      if (step !== 'before the enqueue') await standing(name, 2);
      if (step === 'while waiting') {
        const waits = ({ kind }: Call) => kind === 'wait' || kind === 'watch';
        await eventually('its wait', () => b.faults.calls.some(waits));
      }
      if (step === 'as leader') {
        await leader.resign();
        const second = await waiting;
        await b.killLease();
        await eventually('the loss', () => second.signal.aborted);
      } else {
        if (step !== 'before the enqueue') await b.killLease();
        await expect(waiting, step).rejects.toMatchObject({
          code: expect.stringMatching(/SESSION_LOST|LEADERSHIP_LOST/),
        });
      }
      await leader.resign();
      await standing(name, 0);
    }
  });

  test('compact under every watch', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const first = await of(a, name).campaign({ value: 'a' });
    const waiting = of(b, name).campaign({ value: 'b', timeout: '8s' });
    await standing(name, 2);
    await compactNow();
    await first.resign();
    await compactNow();
    const second = await waiting;
    const third = of(a, name).campaign({ value: 'c', timeout: '8s' });
    await standing(name, 2);
    await compactNow();
    await second.resign();
    await (await third).resign();
  });

  test('re-grant a lease id', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const leader = await of(a, name).campaign({ value: 'a' });
    await a.killLease();
    await world.operator().leases.grant('60s', { id: a.session.lease });
    const next = await of(b, name).campaign({ value: 'b', timeout: '5s' });
    expect(next.term > leader.term).toBe(true);
    await eventually('the loss', () => leader.signal.aborted);
    await expect(leader.proclaim('still')).rejects.toMatchObject({
      code: expect.stringMatching(/LOST/),
    });
    await next.resign();
    await standing(name, 0);
    await world.operator().leases.revoke(a.session.lease);
  });

  test('restore an old snapshot: every term of before ends, and one leads again', async () => {
    await using store = await startRewindableStore();
    const name = world.name();
    const prefix = electionPrefix(name);
    for (let n = 0; n < 20; n++) await store.before.kv.put('filler', `${n}`);
    const clients = [await connect(store.endpoint), await connect(store.endpoint)];
    const abort = new AbortController();
    const leading = new Set<bigint>();
    const terms: bigint[] = [];
    const runs: Promise<unknown>[] = [];
    for (const [at, client] of clients.entries()) {
      const session = await client.session({ ttl: '5s' });
      // The snapshot knows the session of one of them, but none of the candidates.
      if (at === 0) await store.after.leases.grant('5s', { id: session.lease });
      const context = { session, metrics: noMetrics, background: new Set<never>() };
      const election = new Election<string>(context, name, { ...options, recheck: 100 });
      const led = election.lead(
        async ({ signal, term }) => {
          leading.add(term);
          terms.push(term);
          await eventually('the end', () => signal.aborted);
          leading.delete(term);
        },
        { value: `${at}`, signal: abort.signal },
      );
      runs.push(led.catch(() => undefined));
    }
    const keys = electionKeys(prefix);
    const standings = async (client: typeof store.after) =>
      standingsOf(keys, (await client.kv.list({ prefix })).kvs);
    await eventually('both', async () => (await standings(store.before)).contenders.length === 2);
    await eventually('the leader', () => leading.size === 1);
    const [before] = terms;
    store.rewind();
    await eventually('the end of the term', () => before !== undefined && !leading.has(before));
    await eventually('one leader of two', async () => {
      const { contenders, leader } = await standings(store.after);
      return contenders.length === 2 && leader !== null && leading.has(leader.term);
    });
    expect(leading.size).toBe(1);
    abort.abort();
    await Promise.all(runs);
    await Promise.all(clients.map((client) => client.close()));
  });
});
