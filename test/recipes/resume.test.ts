/** Holds that a former process of the session left, taken back: shares, permits, places, terms. */
import { describe, expect, test } from 'vitest';
import { Election } from '../../recipes/election/election.ts';
import type { ElectionOptions } from '../../recipes/election/election-options.ts';
import { CustomLine, type CustomLineOptions } from '../../recipes/locks/custom-line.ts';
import type { LockHandle } from '../../recipes/locks/lock-handle.ts';
import { RwLock } from '../../recipes/locks/rw-lock.ts';
import { Semaphore, type SemaphoreOptions } from '../../recipes/locks/semaphore.ts';
import { electionPrefix } from '../../recipes/names.ts';
import type { SessionOptions } from '../../sdk/session.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { storeMissing } from '../support/store.ts';
import { Actor, eventually, useWorld } from './world.ts';

describe.skipIf(storeMissing)('taken back after a restart', () => {
  const world = useWorld();
  /** A process that stops here: its lease still stands, and nothing of it runs any more. */
  const former = () => world.actor({ clock: new ManualClock(), ttl: '30s' });
  /** The process that comes back, on a connection of its own. */
  const returned = async ({ session: { id } }: Actor, options: SessionOptions = {}) => {
    const { client, faults, context } = await world.actor();
    const session = await client.session({ resume: id, ...options });
    return new Actor(client, faults, session, context.metrics);
  };
  const rw = ({ context }: Actor, name: string) => new RwLock(context, name);
  const permits = ({ context }: Actor, name: string, options: SemaphoreOptions = { limit: 3 }) =>
    new Semaphore(context, name, options);
  const alone: CustomLineOptions = { policy: (_me, ahead) => ahead.at(-1) };
  const line = ({ context }: Actor, name: string, options: CustomLineOptions = alone) =>
    new CustomLine(context, name, options);
  const election = ({ context }: Actor, name: string, options: ElectionOptions<string> = {}) =>
    new Election<string>(context, name, options);
  const kinds = (actor: Actor) =>
    actor.faults.take().flatMap(({ kind }) => (kind === 'watch' ? [] : kind));
  const lost = { code: 'LOCK_LOST' };
  /** Guards hold for this handle, whatever others do. */
  const stands = async (actor: Actor, lock: Pick<LockHandle, 'guard'>) =>
    (await lock.guard(actor.client.kv.txn()).commit()).succeeded;

  const placeOf = async (lease: bigint) => {
    const { kvs } = await world.operator().kv.list({ prefix: 'conclave/' });
    return kvs.find((kv) => kv.lease === lease);
  };

  type Kind = readonly [
    what: string,
    acquire: (actor: Actor, name: string) => Promise<LockHandle>,
    resume: (actor: Actor, name: string, sequencer: string) => Promise<LockHandle>,
  ];
  const every: readonly Kind[] = [
    ['read', (a, n) => rw(a, n).read(), (a, n, s) => rw(a, n).resume(s)],
    ['write', (a, n) => rw(a, n).write(), (a, n, s) => rw(a, n).resume(s)],
    ['permits', (a, n) => permits(a, n).acquire(), (a, n, s) => permits(a, n).resume(s)],
    ['line', (a, n) => line(a, n).acquire(), (a, n, s) => line(a, n).resume(s)],
  ];

  test.each(every)(
    '%s: in two exchanges, with a higher token, and for good',
    async (_what, acquire, resume) => {
      const [gone, name] = [await former(), world.name()];
      const before = await acquire(gone, name);
      const back = await returned(gone, { resumeWithin: '1s' });
      kinds(back);
      const lock = await resume(back, name, before.sequencer);
      expect(kinds(back)).toEqual(['txn', 'txn']);
      expect(lock.token > before.token).toBe(true);
      expect([lock.key, lock.sequencer]).toEqual([before.key, before.sequencer]);
      lock.assertHeld();
      expect(await stands(back, lock)).toBe(true);
      // What else was inherited has gone by then.
      await world.operator().kv.put('other', '', { lease: back.session.lease });
      await expect(resume(back, name, `${before.key}@1`)).rejects.toMatchObject(lost);
      await lock.release();
      await expect(resume(back, name, before.sequencer)).rejects.toMatchObject(lost);
      expect(
        (await world.operator().kv.list({ prefix: 'conclave/' })).kvs.map(({ key }) => key),
      ).not.toContain(lock.key);
    },
  );

  test.each(every)(
    '%s: the former holder, should it still run, loses it',
    async (_what, acquire, resume) => {
      const [actor, name] = [await world.actor(), world.name()];
      const before = await acquire(actor, name);
      const back = await returned(actor);
      const lock = await resume(back, name, before.sequencer);
      await eventually('the loss', () => before.signal.aborted);
      expect(before.signal.reason).toMatchObject(lost);
      await before.release();
      // Taken over once more: the second one loses it as well, and the third keeps it.
      const again = await returned(actor);
      const third = await resume(again, name, before.sequencer);
      await eventually('the second loss', () => lock.signal.aborted);
      expect(third.token > lock.token).toBe(true);
      expect(await stands(again, third)).toBe(true);
      expect(third.isHeld).toBe(true);
    },
  );

  test.each(every.filter(([what]) => what === 'write' || what === 'line'))(
    '%s: a waiter that hears late of its turn does not hold what was taken back meanwhile',
    async (_what, acquire, resume) => {
      const [other, actor, name] = [await world.actor(), await world.actor(), world.name()];
      const holder = await acquire(other, name);
      let hear: () => void = () => undefined;
      const heard = new Promise<void>((resolve) => {
        hear = resolve;
      });
      actor.faults.before = ({ kind, write }) =>
        kind === 'wait' || (kind === 'txn' && !write) ? heard : undefined;
      const waiting = acquire(actor, name);
      const place = () => placeOf(actor.session.lease);
      await eventually('its place', async () => (await place()) !== undefined);
      const own = await place();
      await holder.release();
      const back = await returned(actor);
      const lock = await resume(back, name, `${own?.key}@${own?.createRevision}`);
      hear();
      await expect(waiting).rejects.toMatchObject(lost);
      expect(lock.isHeld).toBe(true);
      expect(await stands(back, lock)).toBe(true);
    },
  );

  test.each(every)('%s: a lost answer does no harm', async (_what, acquire, resume) => {
    const [gone, name] = [await former(), world.name()];
    const before = await acquire(gone, name);
    const back = await returned(gone);
    back.faults.next('lose-answer', ({ write }) => write);
    const lock = await resume(back, name, before.sequencer);
    expect(lock.isHeld).toBe(true);
    expect(await stands(back, lock)).toBe(true);
    const found = await world.operator().kv.get(lock.key);
    expect(found?.modRevision).toBe(lock.token);
  });

  test.each(every)(
    '%s: not by another session, another name or another text',
    async (_what, acquire, resume) => {
      const [actor, name] = [await world.actor(), world.name()];
      const { sequencer } = await acquire(actor, name);
      const refused = { code: 'INVALID_ARGUMENT', message: expect.stringContaining("'sequencer'") };
      const stranger = await world.actor();
      await expect(resume(stranger, name, sequencer)).rejects.toMatchObject(refused);
      await expect(resume(actor, `${name}/2`, sequencer)).rejects.toMatchObject(refused);
      await expect(resume(actor, name, 'x')).rejects.toMatchObject(refused);
      await expect(resume(actor, name, sequencer.replace('@', '@mod:'))).rejects.toMatchObject(
        refused,
      );
      await actor.killLease();
      await expect(resume(actor, name, sequencer)).rejects.toMatchObject(lost);
    },
  );

  describe('read-write lock', () => {
    test('a waiter is not taken back as a holder, whoever holds', async () => {
      const [gone, other, name] = [await former(), await world.actor(), world.name()];
      const places = async () => {
        const { kvs } = await world.operator().kv.list({ prefix: 'conclave/rw/' });
        return kvs.filter(({ key }) => key.includes(`/${gone.session.id}-`));
      };
      for (const [held, waits] of [
        ['write', 'read'],
        ['read', 'write'],
        ['upgradable', 'upgradable'],
      ] as const) {
        const holder = await rw(other, name).acquire(held);
        void rw(gone, name)
          .acquire(waits)
          .catch(() => undefined);
        await eventually('a waiter', async () => (await places()).length === 1);
        const [place] = await places();
        const back = await returned(gone, { resumeWithin: Number.POSITIVE_INFINITY });
        const sequencer = `${place?.key}@${place?.createRevision}`;
        await expect(rw(back, name).resume(sequencer)).rejects.toMatchObject(lost);
        await world.operator().kv.delete(place?.key ?? '');
        await holder.release();
      }
    });

    test('has the mode it had, and changes it from there', async () => {
      const [gone, other, name] = [await former(), await world.actor(), world.name()];
      const upgradable = await rw(gone, name).upgradable();
      const back = await returned(gone);
      const lock = await rw(back, name).resume(upgradable.sequencer);
      expect(lock.mode).toBe('upgradable');
      const reader = await rw(other, name).read();
      const upgraded = lock.upgrade();
      await eventually(
        'the request',
        async () => (await rw(other, name).tryAcquire('read')) === null,
      );
      await reader.release();
      await upgraded;
      expect([lock.mode, await stands(back, lock)]).toEqual(['write', true]);
      await lock.downgrade();
      await using _beside = await rw(other, name).read();
      // Taken back once more, as what it is by now.
      const again = await rw(await returned(back), name).resume(lock.sequencer);
      expect(again.mode).toBe('read');
      await again.release();
    });

    test('an upgrade that waited is given up: readers are let in again', async () => {
      const [gone, other, name] = [await former(), await world.actor(), world.name()];
      const reader = await rw(other, name).read();
      const upgradable = await rw(gone, name).upgradable();
      void upgradable.upgrade().catch(() => undefined);
      await eventually(
        'the request',
        async () => (await rw(other, name).tryAcquire('read')) === null,
      );
      const lock = await rw(await returned(gone), name).resume(upgradable.sequencer);
      expect(lock.mode).toBe('upgradable');
      await using another = await rw(other, name).read({ timeout: '5s' });
      expect(another.isHeld).toBe(true);
      await reader.release();
    });

    test('the former holder cannot change the mode any more', async () => {
      const [actor, name] = [await world.actor({ clock: new ManualClock() }), world.name()];
      const before = await rw(actor, name).write();
      const back = await returned(actor);
      const lock = await rw(back, name).resume(before.sequencer);
      // It has not heard of it: its clock stands still, and so does its watch.
      expect(before.isHeld).toBe(true);
      await expect(before.downgrade()).rejects.toMatchObject(lost);
      expect(await stands(actor, before).catch(() => false)).toBe(false);
      expect((await rw(back, name).inspect()).holders).toMatchObject([{ mode: 'write' }]);
      expect(await stands(back, lock)).toBe(true);
    });
  });

  describe('semaphore', () => {
    test('permits keep their weight, and what has no room is no hold', async () => {
      const [gone, other, name] = [await former(), await world.actor(), world.name()];
      const held = await permits(gone, name).acquire({ weight: 2 });
      void permits(gone, name)
        .acquire({ weight: 2 })
        .catch(() => undefined);
      await eventually(
        'a waiter',
        async () => (await permits(other, name).inspect()).waiters.length === 1,
      );
      const [waiter] = (await permits(other, name).inspect()).waiters;
      const back = await returned(gone);
      const waits = `${waiter?.key}@${waiter?.createRevision}`;
      await expect(permits(back, name).resume(waits)).rejects.toMatchObject(lost);
      const wrong = permits(back, name, { limit: 9 }).resume(held.sequencer);
      await expect(wrong).rejects.toMatchObject({ code: 'MISMATCH' });
      const lock = await permits(back, name, {}).resume(held.sequencer, { maxHold: '1h' });
      expect(lock.weight).toBe(2);
      expect(await permits(other, name).inspect()).toMatchObject({
        used: 2,
        holders: [{ weight: 2 }],
      });
      await permits(other, name).resize(1);
      await expect(permits(back, name, {}).resume(held.sequencer)).rejects.toMatchObject(lost);
      lock.assertHeld();
      await expect(
        permits(back, name).resume(held.sequencer, { weight: 1 } as never),
      ).rejects.toThrow(/'weight'/);
    });
  });

  test('line: only by the rule it was joined by', async () => {
    const [gone, name] = [await former(), world.name()];
    const held = await line(gone, name, { ...alone, rule: 'mine' }).acquire();
    const back = await returned(gone);
    const other = line(back, name, { ...alone, rule: 'other' }).resume(held.sequencer);
    await expect(other).rejects.toMatchObject({ code: 'MISMATCH' });
    await using lock = await line(back, name, { ...alone, rule: 'mine' }).resume(held.sequencer);
    expect(lock.isHeld).toBe(true);
  });

  describe('election', () => {
    const over = { code: 'LEADERSHIP_LOST' };
    /** What followers are told, from now on. */
    const follow = async (actor: Actor, name: string, options: ElectionOptions<string>) => {
      const told: string[] = [];
      const following = election(actor, name, options).leader$.subscribe((leader) => {
        told.push(leader === null ? 'nobody' : `${leader.value} ${leader.term}`);
      });
      await eventually('the first', () => told.length > 0);
      return { told, stop: () => following.unsubscribe() };
    };
    const forms: readonly (readonly [string, ElectionOptions<string>])[] = [
      ['first come', {}],
      ['by priority', { priority: 3, preferred: true }],
    ];

    test.each(forms)(
      '%s: leads on, in two exchanges, and no follower sees a gap',
      async (form, options) => {
        const [gone, other, name] = [await former(), await world.actor(), world.name()];
        const before = await election(gone, name, options).campaign({ value: 'a' });
        const behind = election(other, name, options).campaign({ value: 'b' });
        await eventually(
          'both',
          async () => (await election(other, name).candidates()).length === 2,
        );
        const { told, stop } = await follow(other, name, options);
        const back = await returned(gone, { resumeWithin: '1s' });
        kinds(back);
        const reign = await election(back, name, options).resume(before.sequencer);
        expect(kinds(back)).toEqual([form === 'first come' ? 'txn' : 'list', 'txn']);
        if (form === 'first come') expect(reign.term).toBe(before.term);
        else expect(reign.term > before.term).toBe(true);
        reign.assertLeader();
        expect(await stands(back, reign)).toBe(true);
        await reign.proclaim('c');
        await eventually('the proclamation', () => told.at(-1) === `c ${reign.term}`);
        // What nobody took over is gone by now, and the leader is not.
        await eventually('the rest to go', async () => {
          const { kvs } = await world.operator().kv.list({ prefix: electionPrefix(name) });
          return kvs.every(
            ({ key, modRevision }) => modRevision >= reign.term || !key.includes(gone.session.id),
          );
        });
        expect(told).not.toContain('nobody');
        expect(told.every((each) => !each.startsWith('b'))).toBe(true);
        expect(reign.isLeader).toBe(true);
        stop();
        await reign.resign();
        const next = await behind;
        expect(next.term > reign.term).toBe(true);
        await expect(election(back, name, options).resume(reign.sequencer)).rejects.toMatchObject(
          over,
        );
        await next.resign();
      },
    );

    test.each(forms)(
      '%s: the former leader, should it still run, leads no more',
      async (_form, options) => {
        const [actor, name] = [await world.actor(), world.name()];
        const before = await election(actor, name, options).campaign({ value: 'a' });
        const back = await returned(actor);
        const reign = await election(back, name, options).resume(before.sequencer, { value: 'b' });
        await eventually('the loss', () => before.signal.aborted);
        expect(before.signal.reason).toMatchObject(over);
        await before.resign();
        expect(await election(back, name, options).candidates()).toMatchObject([{ value: 'b' }]);
        await reign.proclaim('c');
        expect(reign.isLeader).toBe(true);
        await reign.resign();
      },
    );

    test.each(forms)(
      '%s: a proclamation of the former leader changes nothing',
      async (_form, options) => {
        const [gone, name] = [await former(), world.name()];
        const before = await election(gone, name, options).campaign({ value: 'a' });
        const back = await returned(gone);
        const reign = await election(back, name, options).resume(before.sequencer);
        await expect(before.proclaim('old')).rejects.toMatchObject(over);
        expect(await election(back, name, options).candidates()).toMatchObject([{ value: 'a' }]);
        expect(reign.isLeader).toBe(true);
        expect(await stands(back, reign)).toBe(true);
        await reign.resign();
      },
    );

    test.each(forms)('%s: a lost answer does no harm', async (_form, options) => {
      const [gone, name] = [await former(), world.name()];
      const before = await election(gone, name, options).campaign({ value: 'a' });
      const back = await returned(gone);
      back.faults.next('lose-answer', ({ write }) => write);
      const reign = await election(back, name, options).resume(before.sequencer);
      expect(await stands(back, reign)).toBe(true);
      expect(await election(back, name, options).candidates()).toMatchObject([{ key: reign.key }]);
      await reign.proclaim('b');
      await reign.resign();
      expect(await election(back, name, options).candidates()).toEqual([]);
    });

    test.each(forms)(
      '%s: nothing is resumed that is over, or was never led',
      async (form, options) => {
        const [gone, other, name] = [await former(), await world.actor(), world.name()];
        const leader = await election(other, name, options).campaign({ value: 'a' });
        void election(gone, name, options)
          .campaign({ value: 'b' })
          .catch(() => undefined);
        await eventually(
          'both',
          async () => (await election(other, name).candidates()).length === 2,
        );
        const [, candidate] = await election(other, name).candidates();
        const back = await returned(gone, { resumeWithin: Number.POSITIVE_INFINITY });
        const ours = election(back, name, options);
        const place =
          form === 'first come'
            ? `${candidate?.key}@${candidate?.createRevision}`
            : leader.sequencer;
        await expect(ours.resume(place)).rejects.toMatchObject(over);
        const refused = {
          code: 'INVALID_ARGUMENT',
          message: expect.stringContaining("'sequencer'"),
        };
        const wrongForm = form === 'first come' ? 'a@mod:5' : `${candidate?.key}@5`;
        await expect(ours.resume(wrongForm)).rejects.toMatchObject(refused);
        await expect(ours.resume('')).rejects.toMatchObject(refused);
        await expect(ours.resume(place, { valeu: 'x' } as never)).rejects.toThrow(/'valeu'/);
        await leader.resign();
      },
    );

    test.each(forms)(
      '%s: lead goes on with a term that stands, and campaigns for one that is over',
      async (_form, options) => {
        const [gone, name] = [await former(), world.name()];
        const before = await election(gone, name, options).campaign({ value: 'a' });
        const back = await returned(gone);
        const resume = before.sequencer;
        const lead = (actor: Actor) =>
          election(actor, name, options).lead(({ term, key }) => ({ term, key }), {
            value: 'b',
            resume,
          });
        const first = await lead(back);
        if (options.priority === undefined)
          expect(first).toEqual({ term: before.term, key: before.key });
        else expect(first.term > before.term).toBe(true);
        const second = await lead(back);
        expect(second.term > first.term).toBe(true);
      },
    );

    test('in the layout of etcd it is refused', async () => {
      const actor = await world.actor();
      const etcd = election(actor, 'etcd-resume', { layout: 'etcd' });
      await using leader = await etcd.campaign({ value: 'a' });
      const refused = { code: 'FAILED_PRECONDITION' };
      await expect(etcd.resume(leader.sequencer)).rejects.toMatchObject(refused);
      // A bare value that looks like a record takes nothing from whoever proclaims it.
      await leader.proclaim({ resumed: 'x' } as never);
      await leader.proclaim('b');
      expect(leader.isLeader).toBe(true);
    });
  });
});
