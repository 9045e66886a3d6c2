import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Place } from '../../recipes/line/line.ts';
import { encodeLineRecord } from '../../recipes/line/line-record.ts';
import type { RwHandle } from '../../recipes/locks/rw-handle.ts';
import { type RwLineUp, RwLock } from '../../recipes/locks/rw-lock.ts';
import {
  blockerOf,
  judgeUpgrade,
  type PlaceMode,
  type RwMode,
  type UpgradeJudgement,
} from '../../recipes/locks/rw-rules.ts';
import { rwPrefix } from '../../recipes/names.ts';
import { op } from '../../sdk/txn.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { storeMissing } from '../support/store.ts';
import { type Actor, deafContext, eventually, settle, turnCosts, useWorld } from './world.ts';

describe.skipIf(storeMissing)('read-write lock', () => {
  const world = useWorld();
  const of = (actor: Actor, name: string) => new RwLock(actor.context, name);
  const members = async (name: string) =>
    (await world.operator().kv.list({ prefix: rwPrefix(name) })).kvs;
  const lineLength = (name: string, length: number) =>
    eventually(`${length} members of ${name}`, async () => (await members(name)).length === length);
  const kinds = (actor: Actor) => actor.faults.take().map(({ kind }) => kind);
  const pending = async (promise: Promise<unknown>) => {
    await settle();
    expect(await Promise.race([promise, Promise.resolve('waiting')])).toBe('waiting');
  };

  test('readers share, at one exchange each', async () => {
    const actor = await world.actor({ clock: new ManualClock() });
    const lock = of(actor, world.name());
    await using _first = await lock.read();
    await using second = await lock.read();
    await using third = await lock.tryAcquire('read');
    expect(kinds(actor)).toEqual(['txn', 'txn', 'txn']);
    expect([second.mode, third?.mode]).toEqual(['read', 'read']);
    expect(await lock.tryAcquire('write')).toBeNull();
  });

  test('a writer waits for every reader, and readers behind it for the writer', async () => {
    const [a, b, c] = [await world.actor(), await world.actor(), await world.actor()];
    const name = world.name();
    const first = await of(a, name).read();
    const second = await of(a, name).read();
    const writing = of(b, name).write();
    await lineLength(name, 3);
    const reading = of(c, name).read();
    await lineLength(name, 4);
    await eventually('the watches', () => c.faults.calls.length >= 3);
    expect(await of(c, name).tryAcquire('read')).toBeNull();
    await second.release();
    await pending(writing);
    await first.release();
    const writer = await writing;
    await pending(reading);
    expect(await of(a, name).inspect()).toMatchObject({
      holders: [{ mode: 'write', key: writer.key }],
      waiters: [{ mode: 'read' }],
    });
    await writer.release();
    const reader = await reading;
    expect(reader.token > writer.token).toBe(true);
    await reader.release();
  });

  test('a hundred readers behind a writer come in together, each by one look', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const writer = await of(a, name).write();
    const waits = Array.from({ length: 100 }, () => of(b, name).read());
    await lineLength(name, 101);
    const calls = 100 * (1 + turnCosts.wait.length);
    await eventually('all waits', () => b.faults.calls.length >= calls);
    b.faults.take();
    await writer.release();
    const readers = await Promise.all(waits);
    const looks = b.faults.take().filter(({ kind }) => kind !== 'watch');
    expect(looks).toHaveLength(100 * turnCosts.look.length);
    await Promise.all(readers.map((reader) => reader.release()));
  });

  test('a downgrade lets readers in and no writer in between', async () => {
    const [a, b, c] = [
      await world.actor({ clock: new ManualClock() }),
      await world.actor({ clock: new ManualClock() }),
      await world.actor({ clock: new ManualClock() }),
    ];
    const name = world.name();
    const lock = await of(a, name).write();
    const reading = of(b, name).read();
    await lineLength(name, 2);
    const writing = of(c, name).write();
    await lineLength(name, 3);
    a.faults.take();
    const same = await lock.downgrade();
    expect(kinds(a)).toEqual(['txn']);
    expect(same).toBe(lock);
    expect(lock.mode).toBe('read');
    const reader = await reading;
    await pending(writing);
    await lock.release();
    await pending(writing);
    await reader.release();
    await (await writing).release();
  });

  test("a writer's guarded transaction fails once it has let readers in", async () => {
    const actor = await world.actor();
    const name = world.name();
    await using lock = await of(actor, name).write();
    const write = actor.client.kv.txn().then(op.put(`target/${name}`, 'x'));
    const guarded = lock.guard(write);
    expect((await guarded.commit()).succeeded).toBe(true);
    await lock.downgrade();
    expect((await guarded.commit()).succeeded).toBe(false);
    expect((await lock.guard(write).commit()).succeeded).toBe(true);
  });

  test('an upgradable reader shares with readers, not with its kind, and upgrades in three exchanges', async () => {
    const [a, b] = [
      await world.actor({ clock: new ManualClock() }),
      await world.actor({ clock: new ManualClock() }),
    ];
    const name = world.name();
    await using lock = await of(a, name).upgradable();
    const reader = await of(b, name).read();
    expect(await of(b, name).tryAcquire('upgradable')).toBeNull();
    b.faults.take();
    await (await of(b, name).tryAcquire('read'))?.release();
    expect(kinds(b)).toEqual(['txn', 'txn', 'txn']);
    await reader.release();
    a.faults.take();
    const before = lock.token;
    await lock.upgrade();
    expect(kinds(a)).toEqual(['txn', 'list', 'txn']);
    expect(lock.mode).toBe('write');
    expect(lock.token > before).toBe(true);
    expect(await of(b, name).tryAcquire('read')).toBeNull();
    await lock.downgrade('upgradable');
    await using _again = await of(b, name).read();
  });

  test('an upgrade waits for the readers there are, and new readers wait behind it', async () => {
    const [a, b, c] = [await world.actor(), await world.actor(), await world.actor()];
    const name = world.name();
    const before = await of(b, name).read();
    await using lock = await of(a, name).upgradable();
    const after = await of(b, name).read();
    const upgrading = lock.upgrade();
    await eventually('the request', async () =>
      (await of(a, name).inspect()).holders.some(({ mode }) => mode === 'upgrading'),
    );
    const late = of(c, name).read();
    await lineLength(name, 4);
    await eventually('its watches', () => c.faults.calls.length >= 3);
    await pending(upgrading);
    await before.release();
    await pending(upgrading);
    await after.release();
    await upgrading;
    await pending(late);
    await lock.downgrade();
    await (await late).release();
  });

  test('an upgrade that is given up lets new readers in again', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await using _reader = await of(b, name).read();
    await using lock = await of(a, name).upgradable();
    await expect(lock.upgrade({ timeout: 30 })).rejects.toMatchObject({ code: 'NOT_ACQUIRED' });
    const abort = new AbortController();
    const given = lock.upgrade({ signal: abort.signal });
    await eventually('the request', async () =>
      (await of(a, name).inspect()).holders.some(({ mode }) => mode === 'upgrading'),
    );
    const late = of(b, name).read();
    await lineLength(name, 3);
    abort.abort('enough');
    await expect(given).rejects.toMatchObject({ code: 'ABORTED', cause: 'enough' });
    await (await late).release();
    expect(lock.mode).toBe('upgradable');
    lock.assertHeld();
  });

  test('a writer that gives up between an upgrade and its readers lets no two in', async () => {
    const [a, b, c] = [await world.actor(), await world.actor(), await world.actor()];
    const name = world.name();
    await using lock = await of(a, name).upgradable();
    const abort = new AbortController();
    const writing = of(b, name).write({ signal: abort.signal });
    await lineLength(name, 2);
    const reading = of(c, name).read();
    await lineLength(name, 3);
    await eventually('its watches', () => c.faults.calls.length >= 3);
    let reader: RwHandle | undefined;
    // The upgrade has judged that the writer keeps the reader out; now the writer leaves.
    a.faults.before = async ({ kind, parts }) => {
      const isUpgrade = kind === 'txn' && parts?.compares.length === 2;
      if (!isUpgrade) return;
      a.faults.heal();
      abort.abort();
      await expect(writing).rejects.toMatchObject({ code: 'ABORTED' });
      reader = await reading;
    };
    const upgrading = lock.upgrade();
    await eventually('the reader', () => reader !== undefined);
    await pending(upgrading);
    await reader?.release();
    await upgrading;
    expect(lock.mode).toBe('write');
  });

  test('what is not held is refused', async () => {
    const actor = await world.actor();
    await using lock = await of(actor, world.name()).read();
    await expect(lock.upgrade()).rejects.toMatchObject({ code: 'NOT_HELD' });
    await expect(lock.downgrade('upgradable')).rejects.toMatchObject({ code: 'NOT_HELD' });
    await expect(lock.downgrade('write' as 'read')).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
    await lock.release();
    await expect(lock.downgrade()).rejects.toMatchObject({ code: 'RELEASED' });
    await expect(of(actor, 'x').acquire('reed' as 'read')).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
  });

  test('the lost answer of every write of an upgrade and a downgrade is survived', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    for (let nth = 1; nth <= 4; nth++) {
      let seen = 0;
      await using lock = await of(a, name).upgradable();
      a.faults.plan = ({ write }) => {
        seen += write ? 1 : 0;
        return write && seen === nth ? 'lose-answer' : 'pass';
      };
      await lock.upgrade();
      expect(await of(b, name).tryAcquire('read')).toBeNull();
      const [place] = await members(name);
      expect(lock.token).toBe(place?.modRevision);
      await lock.downgrade('upgradable');
      await lock.downgrade();
      a.faults.heal();
      await using _other = await of(b, name).upgradable();
    }
  });

  test('the loss of the key ends an upgrade', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await using _reader = await of(b, name).read();
    const lock = await of(a, name).upgradable();
    const upgrading = lock.upgrade();
    upgrading.catch(() => undefined);
    await eventually('the request', async () =>
      (await of(a, name).inspect()).holders.some(({ mode }) => mode === 'upgrading'),
    );
    await world.operator().kv.delete(lock.key);
    await expect(upgrading).rejects.toMatchObject({ code: 'LOCK_LOST' });
    const other = await of(a, name).upgradable();
    const closing = other.upgrade();
    closing.catch(() => undefined);
    await a.session.close();
    await expect(closing).rejects.toMatchObject({ code: 'CLOSED' });
    await lineLength(name, 1);
  });

  test('a wait for readers outlives compaction and watches that report nothing', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const reader = await of(b, name).read();
    await using lock = await of(a, name).upgradable();
    a.faults.after = async ({ kind }) => {
      if (kind !== 'list') return;
      a.faults.heal();
      await reader.release();
      const { kv } = world.operator();
      const { revision } = await kv.put('filler', 'x');
      await kv.compact(revision);
    };
    await lock.upgrade({ timeout: '8s' });
    await lock.release();
    const second = await of(b, name).read();
    const deaf = new RwLock(deafContext(a), name, { recheck: 50 });
    await using other = await deaf.upgradable();
    const upgrading = other.upgrade({ timeout: '8s' });
    await eventually('the request', async () =>
      (await of(a, name).inspect()).holders.some(({ mode }) => mode === 'upgrading'),
    );
    await second.release();
    await upgrading;
  });

  test('using, hold$ and watch$ show and hold the lock in its mode', async () => {
    const actor = await world.actor();
    const name = world.name();
    const lock = of(actor, name);
    const seen: RwLineUp[] = [];
    const watching = lock.watch$.subscribe((lineUp) => seen.push(lineUp));
    expect(await lock.using('write', (held) => held.mode)).toBe('write');
    const modes: RwMode[] = [];
    const holding = lock.hold$('read').subscribe(({ mode }) => modes.push(mode));
    await eventually('the hold', () => modes.length === 1);
    holding.unsubscribe();
    await lineLength(name, 0);
    await eventually('the end', () => seen.length >= 4 && seen.at(-1)?.holders.length === 0);
    watching.unsubscribe();
    expect(seen.flatMap(({ holders }) => holders.map(({ mode }) => mode))).toContain('write');
  });

  test('wrong options are refused by name', async () => {
    const refused = (words: string) => ({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(words),
    });
    const actor = await world.actor();
    const make = (options: unknown) => () => new RwLock(actor.context, 'x', options as never);
    expect(make(null)).toThrow(expect.objectContaining(refused("'options'")));
    expect(make({ maxhold: 1 })).toThrow(expect.objectContaining(refused("'maxHold'")));
    const lock = of(actor, world.name());
    const read = lock.read({ tmieout: 10 } as never);
    await expect(read).rejects.toMatchObject(refused("'timeout'"));
    const tried = lock.tryAcquire('read', { timeout: 10 } as never);
    await expect(tried).rejects.toMatchObject(refused("'timeout'"));
    await using held = await lock.upgradable();
    for (const options of [{ singal: undefined }, { signal: {} }]) {
      const upgraded = held.upgrade(options as never);
      await expect(upgraded).rejects.toMatchObject(refused("'signal'"));
    }
    await expect(lock.using('read', 1 as never)).rejects.toMatchObject(refused("'fn'"));
  });
});

type Actor2 = {
  place: Place & { mode: PlaceMode };
  held: RwMode | undefined;
  judged: UpgradeJudgement | undefined;
};

/** The rules against every order of joins, looks, leaves, upgrades and downgrades. */
test('no interleaving of looks and changes of mode yields a writer beside another holder', () => {
  const command = fc.tuple(
    fc.constantFrom('join', 'look', 'leave', 'request', 'judge', 'commit', 'cancel', 'downgrade'),
    fc.nat(3),
    fc.constantFrom<RwMode>('read', 'upgradable', 'write'),
  );
  fc.assert(
    fc.property(fc.array(command, { minLength: 5, maxLength: 60 }), (commands) => {
      let revision = 1n;
      const actors = new Map<number, Actor2>();
      const line = () =>
        [...actors.values()]
          .map(({ place }) => place)
          .sort((a, b) => (a.createRevision < b.createRevision ? -1 : 1));
      const write = (actor: Actor2, mode: PlaceMode) => {
        revision += 1n;
        const value = Buffer.from(encodeLineRecord({ sinceMs: 0, meta: {}, terms: { mode } }));
        actor.place = { ...actor.place, mode, value, modRevision: revision };
      };
      const look = (actor: Actor2) => {
        const { mode, createRevision } = actor.place;
        if (actor.held || mode === 'upgrading') return;
        const ahead = line().filter((place) => place.createRevision < createRevision);
        if (blockerOf(mode, ahead, createRevision) === undefined) actor.held = mode;
      };
      for (const [what, who, mode] of commands) {
        const actor = actors.get(who);
        if (what === 'join' && !actor) {
          revision += 1n;
          const value = Buffer.from(encodeLineRecord({ sinceMs: 0, meta: {}, terms: { mode } }));
          const place = { key: `${who}`, createRevision: revision, modRevision: revision };
          const joined = { place: { ...place, mode, value }, held: undefined, judged: undefined };
          actors.set(who, joined);
          look(joined);
        }
        if (!actor) continue;
        if (what === 'look') look(actor);
        if (what === 'leave') {
          revision += 1n;
          actors.delete(who);
        }
        if (what === 'request' && actor.held === 'upgradable') {
          if (actor.place.mode === 'upgradable') write(actor, 'upgrading');
        }
        const requested = actor.place.modRevision;
        if (what === 'judge' && actor.place.mode === 'upgrading') {
          actor.judged = judgeUpgrade(line(), { ...actor.place, requested });
        }
        if (what === 'commit' && actor.judged?.kind === 'clear') {
          const { gate } = actor.judged;
          const stands = line().some(
            ({ createRevision }) => createRevision === gate?.createRevision,
          );
          actor.judged = undefined;
          if (gate === undefined || stands) {
            write(actor, 'write');
            actor.held = 'write';
          }
        }
        if (what === 'cancel' && actor.place.mode === 'upgrading') {
          actor.judged = undefined;
          write(actor, 'upgradable');
        }
        if (what === 'downgrade' && actor.held === 'write') {
          const to = mode === 'write' ? 'read' : mode;
          write(actor, to);
          actor.held = to;
        }
        const held = [...actors.values()].flatMap((each) => each.held ?? []);
        if (held.includes('write')) expect(held).toEqual(['write']);
        expect(held.filter((each) => each === 'upgradable').length).toBeLessThanOrEqual(1);
      }
      // Nobody waits for ever: when holders leave and upgrades are judged again, all get in.
      for (let round = 0; actors.size > 0 && round < 40; round++) {
        for (const [who, actor] of [...actors]) {
          look(actor);
          if (actor.place.mode === 'upgrading') {
            const { place } = actor;
            const judged = judgeUpgrade(line(), { ...place, requested: place.modRevision });
            if (judged.kind === 'clear') {
              write(actor, 'write');
              actor.held = 'write';
            }
          } else if (actor.held) actors.delete(who);
        }
      }
      expect(actors.size).toBe(0);
    }),
    { numRuns: 5_000 },
  );
});
