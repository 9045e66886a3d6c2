/** Races that elections elsewhere have lost, in both forms; and sharing an election with etcd's own. */
import { describe, expect, test } from 'vitest';
import { candidateOf, electionKeys, standingsOf } from '../../recipes/election/candidates.ts';
import { Election } from '../../recipes/election/election.ts';
import type { ElectionOptions } from '../../recipes/election/election-options.ts';
import type { LeadContext } from '../../recipes/election/leadership.ts';
import { electionPrefix } from '../../recipes/names.ts';
import { json, text } from '../../sdk/codec.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { commandExists, Launched, temporaryDirectory } from '../support/process.ts';
import { storeMissing } from '../support/store.ts';
import { type Actor, eventually, settle, useWorld } from './world.ts';

const forms: readonly (readonly [string, ElectionOptions<string>])[] = [
  ['first come, first served', {}],
  ['by priority', { priority: 1, vacancyStep: 10 }],
];

describe.skipIf(storeMissing).each(forms)('election %s', (_, options) => {
  const world = useWorld();
  const of = (actor: Actor, name: string) => new Election<string>(actor.context, name, options);
  /** As a bystander without a session or faults sees them. */
  const candidates = async (name: string) => {
    const keys = electionKeys(electionPrefix(name));
    const { kvs } = await world.operator().kv.list({ prefix: keys.prefix });
    return standingsOf(keys, kvs).contenders.map((each) => candidateOf(keys, each, json<string>()));
  };
  const standing = (name: string, count: number) =>
    eventually(`${count} candidates`, async () => (await candidates(name)).length === count);
  const noKeys = (name: string) =>
    eventually(
      'no keys',
      async () => (await world.operator().kv.count({ prefix: electionPrefix(name) })) === 0n,
    );

  test('curator#1024, #1137, #1161: losses in quick succession leave one candidacy, and one run', async () => {
    const a = await world.actor({ ttl: '2s' });
    const name = world.name();
    const abort = new AbortController();
    let running = 0;
    let runs = 0;
    const led = of(a, name).lead(
      async ({ signal }) => {
        runs += 1;
        running += 1;
        expect(running).toBe(1);
        await eventually('the end', () => signal.aborted);
        await settle();
        running -= 1;
        if (abort.signal.aborted) return;
      },
      { value: 'a', signal: abort.signal },
    );
    led.catch(() => undefined);
    await standing(name, 1);
    for (let round = 0; round < 3; round++) {
      const [before] = await candidates(name);
      if (before === undefined) throw new Error('nobody stands');
      // The key, the lease and both at a time, at whatever step the others are.
      const { kv, leases } = world.operator();
      await Promise.allSettled([
        round === 1 ? Promise.resolve() : kv.delete(before.key),
        round === 0 ? Promise.resolve() : leases.revoke(BigInt(`0x${before.session}`)),
      ]);
      await eventually('a new candidacy', async () => {
        const [now] = await candidates(name);
        return now !== undefined && now.key !== before.key;
      });
      await standing(name, 1);
    }
    await eventually('the run', () => running === 1);
    expect(await candidates(name)).toHaveLength(1);
    expect(runs).toBeGreaterThan(1);
    abort.abort();
    await led.catch(() => undefined);
    await noKeys(name);
  });

  test('curator#1211: the key of the session before does not count as one’s own', async () => {
    const clock = new ManualClock();
    const a = await world.actor({ clock, ttl: '10s' });
    const name = world.name();
    const terms: bigint[] = [];
    const led = of(a, name).lead(
      async ({ signal, term }) => {
        terms.push(term);
        if (terms.length === 1) await eventually('the loss', () => signal.aborted);
      },
      { value: 'a' },
    );
    led.catch(() => undefined);
    await eventually('the first term', () => terms.length === 1);
    const [old] = await candidates(name);
    clock.freeze(11_000);
    // Only this process believes that its session is over: its keys are still there.
    await eventually('both sessions', async () => {
      clock.advance(50);
      return (await candidates(name)).length === 2;
    });
    await settle();
    expect(terms).toHaveLength(1);
    expect((await candidates(name))[0]?.key).toBe(old?.key);
    await world.operator().leases.revoke(a.session.lease);
    await eventually('the second term', () => {
      clock.advance(50);
      return terms.length === 2;
    });
    await led;
    expect(terms[1] !== undefined && terms[0] !== undefined && terms[1] > terms[0]).toBe(true);
  });

  test('curator#524: closing in the middle of a callback leaves no key', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const leader = await of(a, name).campaign({ value: 'a' });
    const abort = new AbortController();
    let closed: Promise<void> | undefined;
    const following = of(b, name).leader$.subscribe((seen) => {
      if (seen !== null) return;
      // The very event that would make this one the leader.
      abort.abort();
      closed = b.close();
    });
    const waiting = of(b, name).campaign({ value: 'b', signal: abort.signal });
    waiting.catch(() => undefined);
    await standing(name, 2);
    const { kv } = world.operator();
    await kv.delete({ prefix: electionPrefix(name) });
    await eventually('the callback', () => closed !== undefined);
    await closed;
    following.unsubscribe();
    await expect(waiting).rejects.toMatchObject({
      code: expect.stringMatching(/ABORTED|LEADERSHIP_LOST|SESSION_LOST|CLOSED/),
    });
    await leader.resign();
    await noKeys(name);
  });

  test('etcd#18163: who is seen to write first is not taken for the leader', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const leader = await of(a, name).campaign({ value: 'leader' });
    const seen: (string | undefined)[] = [];
    let behind = 0;
    const abort = new AbortController();
    // Between the listing of the follower and its watch, and after it, candidates write.
    b.faults.after = async ({ kind }) => {
      if (kind !== 'list' || behind > 0) return;
      behind += 1;
      of(a, name)
        .campaign({ value: 'x', signal: abort.signal })
        .catch(() => undefined);
      await standing(name, 2);
    };
    for await (const next of of(b, name).observe()) {
      seen.push(next?.value);
      if (seen.length === 2) break;
      of(a, name)
        .campaign({ value: 'y', signal: abort.signal })
        .catch(() => undefined);
      await standing(name, 3);
      await leader.proclaim('still the leader');
    }
    expect(seen).toEqual(['leader', 'still the leader']);
    abort.abort();
  });

  test('microsoft/etcd3#158, #176: many who stand at once have one leader, and one after each loss', async () => {
    const actors = [await world.actor(), await world.actor(), await world.actor()];
    const name = world.name();
    const leading = new Set<bigint>();
    const abort = new AbortController();
    const terms: bigint[] = [];
    const lead = async ({ signal, term }: LeadContext<string>) => {
      leading.add(term);
      terms.push(term);
      await eventually('the end', () => signal.aborted);
      leading.delete(term);
    };
    const runs = actors.flatMap((actor, at) =>
      [0, 1].map((nth) =>
        of(actor, name)
          .lead(lead, { value: `${at}${nth}`, signal: abort.signal })
          .catch(() => undefined),
      ),
    );
    await standing(name, 6);
    for (let round = 0; round < 4; round++) {
      await eventually('one leader', () => leading.size === 1 && terms.length === round + 1);
      const [leader] = await candidates(name);
      if (leader) await world.operator().kv.delete(leader.key);
      await eventually('its loss', () => !leading.has(terms[round] ?? 0n));
      expect(leading.size).toBeLessThanOrEqual(1);
    }
    expect([...terms].sort((x, y) => (x < y ? -1 : 1))).toEqual(terms);
    abort.abort();
    await Promise.all(runs);
    await noKeys(name);
  });

  test('candidates$ shows who stands, as it changes', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const seen: string[] = [];
    const following = of(b, name).candidates$.subscribe((all) =>
      seen.push(all.map(({ value }) => value).join()),
    );
    await eventually('the first', () => seen.length === 1);
    const leader = await of(a, name).campaign({ value: 'a' });
    const abort = new AbortController();
    const waiting = of(b, name).campaign({ value: 'b', signal: abort.signal });
    await standing(name, 2);
    await eventually('both', () => seen.at(-1) === 'a,b');
    abort.abort();
    await waiting.catch(() => undefined);
    await standing(name, 1);
    await leader.resign();
    await eventually('nobody', () => seen.at(-1) === '');
    following.unsubscribe();
    expect(seen).toEqual(['', 'a', 'a,b', 'a', '']);
  });
});

describe.skipIf(storeMissing !== undefined || !commandExists('etcdctl'))('layout etcd', () => {
  const world = useWorld();
  const etcdctl = (...words: string[]) =>
    new Launched('etcdctl', ['--endpoints', world.endpoint(), ...words], {
      logPath: `${temporaryDirectory('etcdctl')}/log`,
      environment: { ETCDCTL_API: '3' },
    });
  const of = (actor: Actor, name: string) =>
    new Election<string>(actor.context, name, { layout: 'etcd', codec: text() });
  const count = (name: string, keys: bigint) =>
    eventually(
      `${keys} keys`,
      async () => (await world.operator().kv.count({ prefix: `${name}/` })) === keys,
    );

  test('stands in one election with etcdctl elect, and each sees the other', async () => {
    const a = await world.actor();
    const name = world.name('shared');
    const ours = await of(a, name).campaign({ value: 'ours' });
    const listens = etcdctl('elect', '--listen', name);
    const theirs = etcdctl('elect', name, 'theirs');
    try {
      await eventually('our value at theirs', () => listens.log().includes('ours'));
      await count(name, 2n);
      await ours.proclaim('ours, still');
      await eventually('our news at theirs', () => listens.log().includes('ours, still'));
      const behind = of(a, name).campaign({ value: 'behind' });
      await count(name, 3n);
      expect((await of(a, name).candidates()).map(({ value }) => value)).toEqual([
        'ours, still',
        'theirs',
        'behind',
      ]);
      expect(theirs.log()).toBe('');
      await ours.resign();
      await eventually('their turn', () => theirs.log().includes('theirs'));
      for await (const leader of of(a, name).observe()) {
        if (leader?.value !== 'theirs') continue;
        expect(leader.createRevision).toBe(leader.term);
        break;
      }
      await theirs.kill('SIGINT');
      const next = await behind;
      expect(next.term > ours.term).toBe(true);
      await next.resign();
      await count(name, 0n);
    } finally {
      await Promise.all([theirs.kill(), listens.kill()]);
    }
  });

  test('what its values look like means nothing', async () => {
    const a = await world.actor();
    const name = world.name('shared');
    const value = JSON.stringify({ v: 1, priority: 3, text: 'x', sinceMs: 5, meta: { a: 'b' } });
    const ours = await of(a, name).campaign({ value });
    const [listed] = await of(a, name).candidates();
    expect(listed).toMatchObject({ value, meta: {}, since: new Date(0), preferred: false });
    expect(listed).not.toHaveProperty('priority');
    await ours.resign();
    expect(() => new Election(a.context, 'conclave', { layout: 'etcd' })).toThrow(/'name'/);
  });
});
