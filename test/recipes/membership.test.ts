import { firstValueFrom, take, toArray } from 'rxjs';
import { describe, expect, test } from 'vitest';
import { connect } from '../../recipes/connect.ts';
import { Group, type GroupOptions } from '../../recipes/group/group.ts';
import type { GroupEvent } from '../../recipes/group/group-view.ts';
import type { Membership, Share } from '../../recipes/group/membership.ts';
import { noMetrics } from '../../recipes/metrics.ts';
import { groupPrefix } from '../../recipes/names.ts';
import { text } from '../../sdk/codec.ts';
import type { Call } from '../support/faulty-kv.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { storeMissing } from '../support/store.ts';
import { startRewindableStore } from './rewindable-store.ts';
import { type Actor, deafContext, eventually, settle, useWorld } from './world.ts';

type Data = { readonly load: number };

describe.skipIf(storeMissing)('membership', () => {
  const world = useWorld();
  const of = (actor: Actor, name: string, options: GroupOptions<Data> = {}) =>
    new Group<Data>(actor.context, name, options);
  const entries = async (name: string) => {
    const { kvs } = await world.operator().kv.list({ prefix: groupPrefix(name) });
    return kvs;
  };
  const leaseOf = async (name: string) => (await entries(name))[0]?.lease ?? 0n;
  const ids = (members: readonly { readonly id: string }[]) => members.map(({ id }) => id);
  const data = { load: 1 };
  const joined = (membership: Membership<Data>) =>
    eventually('the member to be back', () => membership.state === 'joined');
  const follow = (group: Group<Data>) => {
    const events: GroupEvent<Data>[] = [];
    const subscription = group.changes$.subscribe((event) => events.push(event));
    return { events, stop: () => subscription.unsubscribe() };
  };
  const told = (events: readonly GroupEvent<Data>[]) =>
    events.map((event) => {
      if (event.type === 'reset') return `reset ${event.reason} ${ids(event.members).join()}`;
      return 'member' in event ? `${event.type} ${event.member.id}` : event.type;
    });

  /** Its watches wait for revisions that never come. */
  const deafen = ({ client }: Actor) => {
    const watch = client.kv.watch.bind(client.kv);
    Object.assign(client.kv, {
      watch: (range: string, options: object) => watch(range, { ...options, from: 1n << 40n }),
    });
  };

  test('joining and updating take one exchange each on an open session, leaving one and its lease', async () => {
    const actor = await world.actor({ meta: { host: 'h1' } });
    const name = world.name();
    const group = of(actor, name);
    const member = await group.join({ id: 'i/1', data });
    const writes = () => actor.faults.take().filter(({ write }) => write).length;
    expect(writes()).toBe(1);
    await member.update({ load: 2 });
    expect(writes()).toBe(1);
    const { members, stale } = await group.members();
    expect(members).toMatchObject([{ id: 'i/1', data: { load: 2 }, meta: { host: 'h1' } }]);
    expect(stale).toBe(false);
    expect(member.state).toBe('joined');
    writes();
    await member.leave();
    expect(writes()).toBe(1);
    expect(await entries(name)).toEqual([]);
  });

  test('members are in the order of joining, and an update keeps the place', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const first = await of(a, name).join({ id: 'z', data });
    await of(b, name).join({ id: 'a', data });
    await first.update({ load: 9 });
    expect(ids((await of(b, name).members()).members)).toEqual(['z', 'a']);
  });

  test('changes begin with a reset and tell who joined, changed and left', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await of(a, name).join({ id: '1', data });
    const group = of(b, name);
    const { events } = follow(group);
    await eventually('the reset', () => events.length === 1);
    const two = await of(a, name).join({ id: '2', data });
    await two.update({ load: 7 });
    await two.leave();
    await eventually('all of it', () => events.some(({ type }) => type === 'left'));
    expect(told(events)).toEqual(['reset start 1', 'joined 2', 'updated 2', 'left 2']);
    // Whoever comes later begins with what there is then.
    const late = await firstValueFrom(group.changes$);
    expect(told([late])).toEqual(['reset start 1']);
    expect(ids((await firstValueFrom(group.members$)).members)).toEqual(['1']);
  });

  test('changes are a loop as well, which ends with its signal', async () => {
    const actor = await world.actor();
    const name = world.name();
    const group = of(actor, name);
    const abort = new AbortController();
    const seen: string[] = [];
    const loop = (async () => {
      for await (const event of group.changes({ signal: abort.signal })) {
        seen.push(...told([event]));
        if (event.type === 'left') abort.abort();
      }
    })();
    await eventually('the beginning', () => seen.length === 1);
    const member = await group.join({ id: '1', data });
    await member.leave();
    await loop;
    expect(seen).toEqual(['reset start ', 'joined 1', 'left 1']);
  });

  test('kill the session: a member joins again with the latest data, and the lost one is reported', async () => {
    const lost: string[] = [];
    const held: number[] = [];
    const actor = await world.actor({
      ttl: '2s',
      metrics: {
        waited: () => undefined,
        contended: () => undefined,
        held: ({ ms }) => held.push(ms),
        lost: ({ recipe, reason }) => lost.push(`${recipe} ${reason}`),
      },
    });
    const name = world.name();
    const member = await of(actor, name).join({ id: 'a', data });
    await member.update({ load: 2 });
    await world.operator().leases.revoke(await leaseOf(name));
    await eventually('the loss', () => member.state === 'joining');
    await Promise.all([member.update({ load: 3 }), joined(member)]);
    expect((await of(actor, name).members()).members).toMatchObject([{ data: { load: 3 } }]);
    expect(lost).toHaveLength(1);
    expect(lost[0]).toMatch(/^group (SESSION_LOST|NOT_FOUND)$/);
    await member.leave();
    expect(held).toHaveLength(1);
  });

  test('freeze the process past TTL: a member knows at once, and joins again with the latest data', async () => {
    const clock = new ManualClock();
    const actor = await world.actor({ clock, ttl: '10s' });
    const name = world.name();
    const member = await of(actor, name).join({ id: 'a', data });
    // As the store does when the time is over.
    await world.operator().leases.revoke(await leaseOf(name));
    clock.freeze(11_000);
    expect(member.state).toBe('joining');
    const updated = member.update({ load: 6 });
    await eventually('the member to be back', () => {
      clock.advance(200);
      return member.state === 'joined';
    });
    await updated;
    expect((await of(actor, name).members()).members).toMatchObject([{ data: { load: 6 } }]);
  });

  test('re-grant a lease id: a member notices that its key is gone, though the lease seems to live', async () => {
    const actor = await world.actor({ ttl: '10s' });
    const name = world.name();
    const member = await of(actor, name).join({ id: 'a', data });
    const { leases } = world.operator();
    const id = await leaseOf(name);
    await leases.revoke(id);
    await leases.grant('30s', { id });
    await eventually('the member to be back', async () => {
      return (await entries(name)).length === 1 && member.state === 'joined';
    });
    await member.leave();
    expect(await entries(name)).toEqual([]);
  });

  test('delete own key by hand: it is written again', async () => {
    const actor = await world.actor();
    const name = world.name();
    const member = await of(actor, name).join({ id: 'a', data });
    await world.operator().kv.delete({ prefix: groupPrefix(name) });
    await eventually('the loss', () => member.state === 'joining');
    await joined(member);
    expect(await entries(name)).toHaveLength(1);
  });

  test('restore an old snapshot: a member that the store forgot is found missing by a slow read', async () => {
    const actor = await world.actor();
    const name = world.name();
    // A watch that hears nothing stands for one that waits for revisions which the store had before.
    deafen(actor);
    const member = await of(actor, name, { recheck: 40 }).join({ id: 'a', data });
    await world.operator().kv.delete({ prefix: groupPrefix(name) });
    await eventually('the member', async () => (await entries(name)).length === 1);
    await joined(member);
    // What is there may also be an older write of the own.
    const [old] = await entries(name);
    await member.update({ load: 2 });
    await world.operator().kv.put(old?.key ?? '', old?.value ?? '', { lease: old?.lease ?? 0n });
    await eventually('the latest data', async () => {
      const { members } = await of(actor, name).members();
      return members[0]?.data?.load === 2;
    });
  });

  test('restore an old snapshot: members join the older store, and all see them there', async () => {
    await using store = await startRewindableStore();
    const name = world.name();
    for (let filler = 0; filler < 9; filler++) await store.before.kv.put('filler', `${filler}`);
    const conclave = await connect(store.endpoint);
    const session = await conclave.session({ ttl: '2s' });
    const group = session.group<Data>(name, { recheck: 100 });
    const { events } = follow(group);
    const member = await group.join({ id: 'a', data });
    await eventually('the member', () => events.length === 2);
    store.rewind();
    await eventually('the member', async () => {
      const { count } = await store.after.kv.list({ prefix: groupPrefix(name) });
      return count === 1n && member.state === 'joined' && events.at(-1)?.type === 'joined';
    });
    expect(told(events).filter((line) => line.startsWith('reset'))).toEqual([
      'reset start ',
      'reset rewound ',
    ]);
    await conclave.close();
  });

  test('drop the reply of every write: nobody is there twice, and nobody is left behind', async () => {
    const name = world.name();
    for (let nth = 1; nth <= 4; nth++) {
      const actor = await world.actor();
      let seen = 0;
      actor.faults.plan = ({ write }) => {
        seen += write ? 1 : 0;
        return write && seen === nth ? 'lose-answer' : 'pass';
      };
      const member = await of(actor, name).join({ id: 'a', data });
      await member.update({ load: 5 });
      expect((await of(actor, name).members()).members).toMatchObject([{ data: { load: 5 } }]);
      await member.leave();
      expect(await entries(name)).toEqual([]);
    }
  });

  test('leaving wins over joining again, however late that arrives', async () => {
    const actor = await world.actor();
    const name = world.name();
    const member = await of(actor, name).join({ id: 'a', data });
    const anew = (call: Call) => call.write && call.parts?.compares[0]?.operand === 0n;
    actor.faults.next('linger', anew);
    await world.operator().kv.delete({ prefix: groupPrefix(name) });
    await eventually('its repetition', () => actor.faults.calls.filter(anew).length === 3);
    await joined(member);
    await member.leave();
    await actor.faults.deliver();
    await settle();
    expect(await entries(name)).toEqual([]);
    expect(member.state).toBe('left');
  });

  test('leaving takes nothing from a later member with the same id', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    // It does not hear that it was replaced.
    deafen(a);
    const earlier = await of(a, name).join({ id: 'same', data });
    await of(b, name).join({ id: 'same', data: { load: 2 } });
    await earlier.leave();
    expect((await of(b, name).members()).members).toMatchObject([{ data: { load: 2 } }]);
  });

  test('a join that never got through takes nothing from the member that has its id', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const member = await of(a, name).join({ id: 'same', data });
    const [before] = (await of(a, name).members()).members;
    let writes = 0;
    // It learns who has the key, and then the store refuses it.
    b.faults.plan = ({ write }) => (write && ++writes >= 2 ? 'refuse' : 'pass');
    const abort = new AbortController();
    const joining = of(b, name).join({ id: 'same', data, signal: abort.signal });
    joining.catch(() => undefined);
    await eventually('the second attempt', () => writes >= 2);
    abort.abort();
    await expect(joining).rejects.toMatchObject({ code: 'ABORTED' });
    b.faults.heal();
    await settle();
    expect((await of(a, name).members()).members).toMatchObject([
      { createRevision: before?.createRevision },
    ]);
    await member.leave();
  });

  test('a join that is given up leaves nothing', async () => {
    const actor = await world.actor();
    const name = world.name();
    actor.faults.plan = ({ write }) => (write ? 'lose-answer' : 'pass');
    const abort = new AbortController();
    const joining = of(actor, name).join({ data, signal: abort.signal });
    joining.catch(() => undefined);
    await eventually('an attempt', () => actor.faults.calls.length > 0);
    abort.abort();
    await expect(joining).rejects.toMatchObject({ code: 'ABORTED' });
    await eventually('nothing', async () => (await entries(name)).length === 0);
  });

  test('a later member with the same id takes the place; the earlier one ends', async () => {
    const lost: string[] = [];
    const metrics = { ...noMetrics, lost: ({ reason }: { reason: string }) => lost.push(reason) };
    const [a, b] = [await world.actor({ metrics }), await world.actor()];
    const name = world.name();
    const earlier = await of(a, name).join({ id: 'same', data });
    await of(a, name).join({ id: 'other', data });
    const { events } = follow(of(b, name));
    await eventually('the reset', () => events.length === 1);
    const later = await of(b, name).join({ id: 'same', data: { load: 2 } });
    await eventually('the end of the earlier', () => earlier.state === 'replaced');
    await expect(earlier.update(data)).rejects.toMatchObject({ code: 'MISMATCH' });
    expect(lost).toEqual(['MISMATCH']);
    await earlier.leave();
    await eventually('both events', () => events.length === 3);
    expect(told(events)).toEqual(['reset start same,other', 'left same', 'joined same']);
    expect((await of(b, name).members()).members).toMatchObject([
      { id: 'same', data: { load: 2 } },
      { id: 'other' },
    ]);
    expect(later.state).toBe('joined');
  });

  test('who comes back after a loss takes nothing from a later member with the same id', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const earlier = await of(a, name).join({ id: 'same', data });
    let refusals = 0;
    a.faults.before = async ({ write, parts }) => {
      if (!write || parts?.compares[0]?.operand !== 0n) return;
      refusals += 1;
      // The first finds its lease gone; before the second the place is taken.
      if (refusals === 2) await of(b, name).join({ id: 'same', data: { load: 2 } });
    };
    await world.operator().leases.revoke(await leaseOf(name));
    await eventually('the end of the earlier', () => earlier.state === 'replaced');
    expect((await of(b, name).members()).members).toMatchObject([{ data: { load: 2 } }]);
  });

  test('each member has its share of the work, by its place in the order', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const one = await of(a, name).join({ id: '1', data });
    const shares: (Share | null)[] = [];
    one.share$.subscribe((share) => shares.push(share));
    const two = await of(b, name).join({ id: '2', data });
    const of2 = () => firstValueFrom(two.share$);
    expect(await of2()).toMatchObject({ index: 1, count: 2 });
    await eventually('two', () => shares.at(-1)?.count === 2);
    await one.update({ load: 4 });
    await one.leave();
    await eventually('one', async () => (await of2())?.count === 1);
    expect(await of2()).toMatchObject({ index: 0, count: 1 });
    expect(shares.map((share) => share && `${share.index}/${share.count}`)).toEqual([
      '0/1',
      '0/2',
      null,
    ]);
  });

  test('a member that lost its session has no share until it is back, at the end of the order', async () => {
    const [a, b] = [await world.actor({ ttl: '2s' }), await world.actor()];
    const name = world.name();
    const one = await of(a, name).join({ id: '1', data });
    await of(b, name).join({ id: '2', data });
    const shares: (number | undefined)[] = [];
    one.share$.subscribe((share) => shares.push(share?.index));
    await eventually('its share', () => shares.at(-1) === 0);
    await world.operator().leases.revoke((await entries(name))[0]?.lease ?? 0n);
    await eventually('its new share', () => shares.at(-1) === 1);
    expect(shares).toContain(undefined);
  });

  test('a member that lost its session knows that it has no share before the group tells', async () => {
    const actor = await world.actor({ ttl: '2s' });
    const name = world.name();
    // Nothing that happens to the group is heard of.
    const group = new Group<Data>(deafContext(actor), name);
    const member = await group.join({ data });
    const shares: (Share | null)[] = [];
    member.share$.subscribe((share) => shares.push(share));
    await eventually('its share', () => shares.length === 1);
    await world.operator().leases.revoke(await leaseOf(name));
    await eventually('the loss', () => member.state === 'joining');
    expect(shares.at(-1)).toBeNull();
  });

  test('waiting counts nobody while the store does not answer', async () => {
    const actor = await world.actor();
    const name = world.name();
    const group = of(actor, name, { recheck: 40 });
    await group.join({ data });
    const { events, stop } = follow(group);
    actor.faults.plan = ({ kind }) => (kind === 'list' ? 'refuse' : 'pass');
    await eventually('staleness', () => events.at(-1)?.type === 'stale');
    await expect(group.waitFor(1, { timeout: 30 })).rejects.toMatchObject({ code: 'TIMEOUT' });
    const waiting = group.waitFor(1);
    actor.faults.heal();
    expect((await waiting).members).toHaveLength(1);
    stop();
  });

  test('waiting for a number of members, and for what they say', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const group = of(a, name);
    const waiting = group.waitFor(2);
    const heavy = group.waitFor((members) => members.some((member) => member.data?.load === 8));
    await group.join({ id: '1', data });
    const member = await of(b, name).join({ id: '2', data });
    expect(ids((await waiting).members)).toEqual(['1', '2']);
    await member.update({ load: 8 });
    expect((await heavy).members).toHaveLength(2);
    expect((await group.waitFor(0)).members).toHaveLength(2);
  });

  test('kill the session at every step of a wait: it ends at once; a signal and a timeout end it too', async () => {
    const name = world.name();
    for (const step of ['before', 'listing', 'watching'] as const) {
      const actor = await world.actor({ ttl: '2s' });
      const group = of(actor, name);
      if (step === 'before') {
        await actor.session.close();
        await expect(group.waitFor(3)).rejects.toMatchObject({ code: 'CLOSED' });
        continue;
      }
      if (step === 'listing') actor.faults.plan = () => 'refuse';
      const waiting = group.waitFor(3);
      waiting.catch(() => undefined);
      const kind = step === 'listing' ? 'list' : 'watch';
      await eventually(step, () => actor.faults.calls.some((call) => call.kind === kind));
      await actor.killLease();
      await expect(waiting).rejects.toMatchObject({ code: 'SESSION_LOST' });
    }
    const group = of(await world.actor(), name);
    await expect(group.waitFor(1, { timeout: 20 })).rejects.toMatchObject({ code: 'TIMEOUT' });
    const signal = AbortSignal.abort('enough');
    await expect(group.waitFor(1, { signal })).rejects.toMatchObject({ code: 'ABORTED' });
    const broken = group.waitFor(() => {
      throw new Error('no');
    });
    await expect(broken).rejects.toThrow('no');
  });

  test('compact under every watch: what could not be followed is told as a reset', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const member = await of(a, name).join({ id: '1', data });
    // The watch is made to begin at a revision that is compacted.
    const watch = b.client.kv.watch.bind(b.client.kv);
    Object.assign(b.client.kv, {
      watch: (range: string, options: object) => watch(range, { ...options, from: 2n }),
    });
    const { revision } = await world.operator().kv.put('filler', 'x');
    await world.operator().kv.compact(revision);
    const { events } = follow(of(b, name));
    await eventually('the second reset', () => events.length === 2);
    await member.leave();
    await eventually('the end', () => events.length === 3);
    expect(told(events)).toEqual(['reset start 1', 'reset compacted 1', 'left 1']);
  });

  test('while the store cannot be reached the members stay, and are said to be stale', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await of(a, name).join({ id: '1', data });
    const group = of(b, name, { recheck: 40 });
    const { events } = follow(group);
    await eventually('the reset', () => events.length === 1);
    b.faults.plan = ({ kind }) => (kind === 'list' ? 'refuse' : 'pass');
    await eventually('staleness', () => events.at(-1)?.type === 'stale');
    expect(await firstValueFrom(group.members$)).toMatchObject({
      stale: true,
      members: [{ id: '1' }],
    });
    b.faults.heal();
    await eventually('freshness', () => events.at(-1)?.type === 'fresh');
    expect(told(events)).toEqual(['reset start 1', 'stale', 'fresh']);
  });

  test('what others wrote that this client cannot read is a member, and what is no member is none', async () => {
    const actor = await world.actor();
    const name = world.name();
    const other = new Group<string>(actor.context, name, { codec: text() });
    await other.join({ id: 'text', data: 'no json' });
    await world.operator().kv.put(`${groupPrefix(name)}stray`, 'by hand');
    const { members } = await of(actor, name).members();
    expect(members).toMatchObject([{ id: 'text', error: { code: 'CODEC' } }]);
    expect((await of(actor, name).waitFor(1)).members).toHaveLength(1);
  });

  test('data that the store refuses is not taken, and the member stays', async () => {
    const actor = await world.actor();
    const name = world.name();
    const group = new Group<string>(actor.context, name);
    const member = await group.join({ id: 'a', data: 'small' });
    const large = 'x'.repeat(2 << 20);
    await expect(member.update(large)).rejects.toMatchObject({ code: expect.any(String) });
    expect([member.data, member.state]).toEqual(['small', 'joined']);
    await member.update('smaller');
    expect((await group.members()).members).toMatchObject([{ data: 'smaller' }]);
    await expect(group.join({ data: large })).rejects.toMatchObject({ code: expect.any(String) });
  });

  test('of data given in a row only what the store refuses is dropped', async () => {
    const actor = await world.actor();
    const group = new Group<string>(actor.context, world.name());
    const member = await group.join({ id: 'a', data: 'small' });
    const results = await Promise.allSettled([
      member.update('smaller'),
      member.update('x'.repeat(2 << 20)),
    ]);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
    expect((await group.members()).members).toMatchObject([{ data: 'smaller' }]);
    expect(member.data).toBe('smaller');
    const [large, larger] = ['x'.repeat(2 << 20), 'x'.repeat(3 << 20)];
    const refused = [member.update(large), member.update(larger)];
    expect(member.data).toBe(larger);
    const codes = await Promise.allSettled(refused);
    expect(codes.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    expect(member.data).toBe('smaller');
  });

  test('two tasks, one session: each joins and leaves for itself', async () => {
    const actor = await world.actor();
    const name = world.name();
    const [one, two] = await Promise.all([
      of(actor, name).join({ data }),
      of(actor, name).join({ data }),
    ]);
    expect(await entries(name)).toHaveLength(2);
    await one.leave();
    expect(ids((await of(actor, name).members()).members)).toEqual([two.id]);
    await actor.close();
    expect(await entries(name)).toEqual([]);
  });

  test('names options that do not exist, and what is of another type', async () => {
    const actor = await world.actor();
    const name = world.name();
    const group = of(actor, name);
    const invalid = (field: string) => ({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(`'${field}'`),
    });
    expect(() => of(actor, name, { rechekc: 1 } as object)).toThrow(/did you mean 'recheck'/);
    expect(() => of(actor, name, { codec: {} as never })).toThrow(/'codec'/);
    expect(() => of(actor, name, null as never)).toThrow(/'options'/);
    await expect(group.join(undefined as never)).rejects.toMatchObject(invalid('options'));
    await expect(group.join(null as never)).rejects.toMatchObject(invalid('options'));
    await expect(group.join({ date: 1 } as never)).rejects.toMatchObject(invalid('date'));
    for (const target of ['2', undefined, null, {}, 2n]) {
      const wait = group.waitFor(target as never, { timeout: '1s' });
      await expect(wait).rejects.toMatchObject(invalid('target'));
    }
    await expect(group.waitFor(0, { timeuot: 1 } as object)).rejects.toThrow(/'timeuot'/);
    expect(() => group.changes({ singal: 1 } as object)).toThrow(/'singal'/);
    expect(await entries(name)).toEqual([]);
  });

  test('joining ends with its timeout: nobody has joined', async () => {
    const waits: unknown[] = [];
    const metrics = { ...noMetrics, waited: (event: object) => waits.push(event) };
    const actor = await world.actor({ metrics });
    const name = world.name();
    const group = of(actor, name);
    actor.faults.plan = ({ write }) => (write ? 'refuse' : 'pass');
    const late = group.join({ data, timeout: '20ms' });
    await expect(late).rejects.toMatchObject({ code: 'TIMEOUT', outcome: 'not-applied' });
    actor.faults.heal();
    expect(await entries(name)).toEqual([]);
    const member = await group.join({ data, timeout: '10s' });
    expect(member.state).toBe('joined');
    const measured = { recipe: 'group', name, ms: expect.any(Number) };
    expect(waits).toEqual([
      { ...measured, outcome: 'CLOSED' },
      { ...measured, outcome: 'acquired' },
    ]);
  });

  test('wrong use: leaving twice is harmless, a membership that ended refuses, bad input is named', async () => {
    const actor = await world.actor();
    const name = world.name();
    const group = of(actor, name);
    const member = await group.join({ data });
    const states = firstValueFrom(member.state$.pipe(take(2), toArray()));
    await Promise.all([member.leave(), member.leave()]);
    await member[Symbol.asyncDispose]();
    expect(await states).toEqual(['joined', 'left']);
    await expect(member.update(data)).rejects.toMatchObject({ code: 'RELEASED' });
    expect(() => of(actor, '')).toThrow(/'name'/);
    expect(() => of(actor, name, { recheck: 1 })).toThrow(/'recheck'/);
    await expect(group.join({ id: '', data })).rejects.toThrow(/'id'/);
    await expect(group.waitFor(0.5)).rejects.toThrow(/'target'/);
    const cyclic: { load: number; self?: unknown } = { load: 1 };
    cyclic.self = cyclic;
    await expect(group.join({ data: cyclic })).rejects.toMatchObject({ code: 'CODEC' });
    const signal = AbortSignal.abort();
    await expect(group.join({ data, signal })).rejects.toMatchObject({ code: 'ABORTED' });
    expect(await entries(name)).toEqual([]);
  });
});
