import { firstValueFrom } from 'rxjs';
import { describe, expect, test } from 'vitest';
import { connect } from '../../recipes/connect.ts';
import { Config, type ConfigOptions } from '../../recipes/group/config.ts';
import type { ConfigStatus } from '../../recipes/group/config-state.ts';
import type { SchemaIssue, StandardSchema } from '../../recipes/group/standard-schema.ts';
import { configPrefix } from '../../recipes/names.ts';
import type { Client } from '../../sdk/client.ts';
import { storeMissing } from '../support/store.ts';
import { startRewindableStore } from './rewindable-store.ts';
import { type Actor, eventually, settle, useWorld } from './world.ts';

type Settings = { readonly port: number; readonly level: string };
type Stored = { readonly port: number; readonly level?: string };

/** A schema as any library would make it; `level` has a default. */
const settings = (
  check: (value: Stored) => SchemaIssue[] = () => [],
): StandardSchema<Stored, Settings> => ({
  '~standard': {
    version: 1,
    vendor: 'test',
    validate: (value) => {
      const given = value as Partial<Stored> | null;
      const issues: SchemaIssue[] =
        typeof given?.port === 'number' ? [] : [{ message: 'not a number', path: ['port'] }];
      if (issues.length === 0) issues.push(...check(given as Stored));
      if (issues.length > 0) return { issues };
      return { value: { port: given?.port ?? 0, level: given?.level ?? 'info' } };
    },
  },
});

describe.skipIf(storeMissing)('config', () => {
  const world = useWorld();
  const kv = () => world.operator().kv;
  const keyOf = (name: string) => `${configPrefix(name)}current`;
  const write = (name: string, document: unknown) =>
    kv().put(keyOf(name), typeof document === 'string' ? document : JSON.stringify(document));
  const open = (actor: Actor, name: string, options: ConfigOptions<Settings, Stored> = {}) =>
    Config.open<Settings, Stored>(actor.context, name, { schema: settings(), ...options });
  const follow = (config: Config<Settings, Stored>) => {
    const ports: number[] = [];
    const states: string[] = [];
    config.changes$.subscribe(({ value }) => ports.push(value.port));
    config.status$.subscribe(({ state }) => states.push(state));
    return { ports, states };
  };
  const kinds = (actor: Actor) => actor.faults.take().map(({ kind }) => kind);

  /** Watches tell nothing until the function that this returns is called. */
  const delayWatches = ({ kv: slow }: Client) => {
    const watch = slow.watch.bind(slow);
    let release: () => void = () => undefined;
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    async function* late<T>(notices: AsyncIterable<T>): AsyncGenerator<T> {
      await released;
      yield* notices;
    }
    Object.assign(slow, {
      watch: (range: object, options: object) => late(watch(range as never, options)),
    });
    return () => release();
  };

  test('is the document as the schema makes it; one exchange and a watch, reading costs nothing', async () => {
    const actor = await world.actor();
    const name = world.name();
    const { revision } = await write(name, { port: 80 });
    const config = await open(actor, name);
    expect([config.value, config.revision]).toEqual([{ port: 80, level: 'info' }, revision]);
    expect(config.status).toEqual({ state: 'ok' });
    expect(kinds(actor)).toEqual(['list', 'watch']);
  });

  test('an update costs a read and a write, and is shown when it resolves', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await write(name, { port: 1, level: 'warn' });
    const [ours, theirs] = [await open(a, name), await open(b, name)];
    const { ports } = follow(theirs);
    kinds(a);
    const next = await ours.update((value) => ({ ...value, port: value.port + 1 }));
    expect(kinds(a)).toEqual(['get', 'txn']);
    expect(next).toMatchObject({ value: { port: 2, level: 'warn' }, revision: ours.revision });
    expect(ours.value).toEqual(next.value);
    await eventually('the news', () => theirs.revision === next.revision);
    expect(ports).toEqual([1, 2]);
    expect((await firstValueFrom(theirs.changes$)).value.port).toBe(2);
  });

  test('updates of many tasks lose nothing', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await write(name, { port: 0 });
    const configs = [await open(a, name, { retries: 200 }), await open(b, name, { retries: 200 })];
    const seen = configs.map((config) => follow(config).ports);
    await Promise.all(
      Array.from({ length: 10 }, async (_, index) => {
        const config = configs[index % 2];
        const written = await config?.update((value) => ({ ...value, port: value.port + 1 }));
        expect(config?.revision).toBeGreaterThanOrEqual(written?.revision ?? 0n);
      }),
    );
    await eventually('all of them', () => configs.every(({ value }) => value.port === 10));
    for (const ports of seen) expect(ports).toEqual([...ports].sort((x, y) => x - y));
  });

  test('a watch that lags takes nothing back of what was written', async () => {
    const actor = await world.actor();
    const name = world.name();
    await write(name, { port: 1 });
    const release = delayWatches(actor.client);
    const config = await open(actor, name);
    const { ports } = follow(config);
    const raise = () => config.update((value) => ({ ...value, port: value.port + 1 }));
    await raise();
    await raise();
    expect(config.value.port).toBe(3);
    release();
    await write(name, { port: 9 });
    await eventually('the news', () => config.value.port === 9);
    expect(ports).toEqual([1, 2, 3, 9]);
  });

  test('what is written is checked as others read it', async () => {
    const actor = await world.actor();
    const name = world.name();
    const dates: StandardSchema<Date> = {
      '~standard': {
        version: 1,
        vendor: 'test',
        validate: (value) =>
          value instanceof Date ? { value } : { issues: [{ message: 'not a date' }] },
      },
    };
    // As JSON a date is a text.
    const config = await Config.open(actor.context, name, { schema: dates, default: new Date(0) });
    await expect(config.set(new Date(1))).rejects.toThrow(/'value'.*not a date/);
    expect(await kv().get(keyOf(name))).toBeNull();
  });

  test('drop the reply of every write: an update happens once, and is known to have', async () => {
    const actor = await world.actor();
    const name = world.name();
    await write(name, { port: 1 });
    const config = await open(actor, name);
    for (let port = 2; port < 5; port++) {
      actor.faults.next('lose-answer');
      await config.update((value) => ({ ...value, port: value.port + 1 }));
      expect(config.value.port).toBe(port);
    }
    expect(JSON.parse((await kv().getString(keyOf(name))) ?? '')).toMatchObject({ port: 4 });
  });

  test('what is not valid leaves the last good value in force, and the status says why', async () => {
    const actor = await world.actor();
    const name = world.name();
    await write(name, { port: 1 });
    const config = await open(actor, name);
    const { ports, states } = follow(config);
    const { revision } = await write(name, { port: 'eighty' });
    await eventually('the status', () => config.status.state === 'invalid');
    expect(config.status).toMatchObject({ revision, reason: { code: 'CODEC' } });
    expect((config.status as Extract<ConfigStatus, { state: 'invalid' }>).reason.message).toContain(
      'port: not a number',
    );
    await write(name, 'no json');
    await settle();
    expect(config.value.port).toBe(1);
    await expect(config.update((value) => value)).rejects.toMatchObject({ code: 'CODEC' });
    await write(name, { port: 3 });
    await eventually('the next good one', () => config.value.port === 3);
    expect(config.status).toEqual({ state: 'ok' });
    expect(ports).toEqual([1, 3]);
    expect(new Set(states)).toEqual(new Set(['ok', 'invalid']));
  });

  test('two versions of the schema: what one does not know stays, what it cannot read harms nobody', async () => {
    const actor = await world.actor();
    const name = world.name();
    await write(name, { port: 1, color: 'red' });
    const old = await open(actor, name);
    await old.update((value, stored) => ({ ...(stored as object), ...value, port: 2 }));
    expect(JSON.parse((await kv().getString(keyOf(name))) ?? '')).toEqual({
      port: 2,
      level: 'info',
      color: 'red',
    });
    const strict = settings(({ port }) => (port > 9 ? [] : [{ message: 'too small' }]));
    await expect(open(actor, name, { schema: strict })).rejects.toMatchObject({ code: 'CODEC' });
    const careful = await open(actor, name, { schema: strict, default: { port: 10 } });
    expect([careful.value.port, careful.revision, careful.status.state]).toEqual([
      10,
      0n,
      'invalid',
    ]);
    await old.update((value) => ({ ...value, port: 20 }));
    await eventually('a valid one', () => careful.value.port === 20);
    expect(careful.status.state).toBe('ok');
  });

  test('a schema may take its time, and what comes in between is skipped in order', async () => {
    const actor = await world.actor();
    const name = world.name();
    await write(name, { port: 1 });
    let release: () => void = () => undefined;
    const inner = settings();
    const slow: StandardSchema<Stored, Settings> = {
      '~standard': {
        ...inner['~standard'],
        validate: async (value) => {
          if ((value as Stored).port === 2) {
            await new Promise<void>((resolve) => {
              release = resolve;
            });
          }
          return inner['~standard'].validate(value);
        },
      },
    };
    const config = await open(actor, name, { schema: slow });
    const { ports } = follow(config);
    await write(name, { port: 2 });
    await eventually('the slow one', () => {
      release();
      return ports.includes(2);
    });
    await write(name, { port: 3 });
    await eventually('the last', () => config.value.port === 3);
    expect(ports).toEqual([1, 2, 3]);
    const throwing: StandardSchema<Stored, Settings> = {
      '~standard': {
        ...inner['~standard'],
        validate: () => {
          throw new Error('broken schema');
        },
      },
    };
    await expect(open(actor, name, { schema: throwing })).rejects.toThrow(/broken schema/);
  });

  test('without a document: NOT_FOUND, or the default, until there is one', async () => {
    const actor = await world.actor();
    const name = world.name();
    await expect(open(actor, name)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    const config = await open(actor, name, { default: { port: 7 } });
    expect([config.value, config.revision]).toEqual([{ port: 7, level: 'info' }, 0n]);
    expect(config.status.state).toBe('ok');
    const { revision } = await config.update((value) => ({ ...value, port: value.port + 1 }));
    expect([config.value.port, config.revision]).toEqual([8, revision]);
    const plain = await open(actor, name);
    await kv().delete(keyOf(name));
    await eventually('the deletion', () => config.value.port === 7);
    // Without a default the last good one stays.
    await eventually('the status', () => plain.status.state === 'invalid');
    expect(plain.status).toMatchObject({ reason: { code: 'NOT_FOUND' } });
    expect(plain.value.port).toBe(8);
    await expect(plain.update((value) => value)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await plain.set({ port: 9 });
    expect([plain.value.port, plain.status.state]).toEqual([9, 'ok']);
  });

  test('while the store cannot be reached the value stays, and is said to be stale', async () => {
    const actor = await world.actor();
    const name = world.name();
    await write(name, { port: 1 });
    const config = await open(actor, name, { recheck: 40 });
    const { ports, states } = follow(config);
    actor.faults.plan = ({ kind }) => (kind === 'list' ? 'refuse' : 'pass');
    await eventually('staleness', () => config.status.state === 'stale');
    expect(config.status).toMatchObject({ error: { code: 'UNREACHABLE' } });
    actor.faults.heal();
    await eventually('freshness', () => config.status.state === 'ok');
    expect([ports, states]).toEqual([[1], ['ok', 'stale', 'ok']]);
  });

  test('compact under every watch: the latest is read anew', async () => {
    const actor = await world.actor();
    const name = world.name();
    await write(name, { port: 1 });
    const watch = actor.client.kv.watch.bind(actor.client.kv);
    Object.assign(actor.client.kv, {
      watch: (range: object, options: object) => watch(range as never, { ...options, from: 2n }),
    });
    const { revision } = await write(name, { port: 2 });
    await kv().compact(revision);
    const config = await open(actor, name);
    await write(name, { port: 3 });
    await eventually('the news', () => config.value.port === 3);
    expect(config.status.state).toBe('ok');
  });

  test('restore an old snapshot: the older document is in force, and updates go on from there', async () => {
    await using store = await startRewindableStore();
    const name = world.name();
    const put = (client: typeof store.before, port: number) =>
      client.kv.put(keyOf(name), JSON.stringify({ port }));
    await put(store.after, 1);
    for (let port = 1; port < 6; port++) await put(store.before, port);
    const conclave = await connect(store.endpoint);
    const session = await conclave.session();
    // The answer to the update comes before the watch brings it.
    const release = delayWatches(session.client);
    const config = await session.config(name, { schema: settings() });
    await config.update((value) => ({ ...value, port: 50 }));
    release();
    const { ports } = follow(config);
    expect(config.value.port).toBe(50);
    store.rewind();
    await eventually('the old one', () => config.value.port === 1);
    await put(store.after, 2);
    await eventually('the news', () => config.value.port === 2);
    expect(ports).toEqual([50, 1, 2]);
    await conclave.close();
  });

  test('earlier documents can be looked at, and come back as they were', async () => {
    const actor = await world.actor();
    const name = world.name();
    const first = await write(name, { port: 1, color: 'red' });
    await write(name, 'broken');
    await write(name, { port: 3 });
    const config = await open(actor, name);
    const history = [];
    for await (const version of config.history()) history.push(version);
    expect(history).toMatchObject([
      { value: { port: 3 } },
      { error: { code: 'CODEC' } },
      { value: { port: 1 }, revision: first.revision },
    ]);
    expect(await config.at(first.revision)).toEqual({
      value: { port: 1, level: 'info' },
      revision: first.revision,
    });
    kinds(actor);
    await config.rollback(first.revision);
    expect(kinds(actor)).toEqual(['get', 'get', 'txn']);
    expect(config.value.port).toBe(1);
    expect(JSON.parse((await kv().getString(keyOf(name))) ?? '')).toEqual({
      port: 1,
      color: 'red',
    });
    const signal = AbortSignal.abort();
    await expect(config.history({ signal }).next()).rejects.toMatchObject({ code: 'ABORTED' });
    const wrong = { signl: signal } as never;
    await expect(config.history(wrong).next()).rejects.toThrow(/'signl'/);
    const broken = history[1]?.revision ?? 0n;
    await expect(config.rollback(broken)).rejects.toMatchObject({ code: 'CODEC' });
    await expect(config.at(first.revision - 1n)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await kv().compact(broken);
    await expect(config.at(first.revision)).rejects.toMatchObject({ code: 'COMPACTED' });
    const left = [];
    for await (const version of config.history()) left.push(version);
    expect(left.length).toBeLessThan(4);
  });

  test('kill the session at every step of a wait: it ends at once, and the value is followed on', async () => {
    const name = world.name();
    await write(name, { port: 1 });
    const hidden = await world.actor({ ttl: '2s' });
    hidden.faults.plan = ({ kind }) => (kind === 'list' ? 'refuse' : 'pass');
    const opening = open(hidden, name);
    opening.catch(() => undefined);
    await eventually('an attempt', () => hidden.faults.calls.length > 0);
    await hidden.killLease();
    await expect(opening).rejects.toMatchObject({ code: 'SESSION_LOST' });
    const actor = await world.actor({ ttl: '2s' });
    const config = await open(actor, name);
    let updating: Promise<unknown> = Promise.resolve();
    actor.faults.plan = ({ kind }) => (kind === 'txn' ? 'refuse' : 'pass');
    updating = config.update((value) => value);
    updating.catch(() => undefined);
    await eventually('an attempt', () => actor.faults.calls.some(({ kind }) => kind === 'txn'));
    await actor.killLease();
    await expect(updating).rejects.toMatchObject({ code: 'SESSION_LOST', outcome: 'not-applied' });
    await write(name, { port: 2 });
    await eventually('the news', () => config.value.port === 2);
  });

  test('waiting for the first answer ends by a signal and a timeout', async () => {
    const actor = await world.actor();
    const name = world.name();
    actor.faults.plan = ({ kind }) => (kind === 'list' ? 'refuse' : 'pass');
    await expect(open(actor, name, { timeout: 20 })).rejects.toMatchObject({ code: 'TIMEOUT' });
    const signal = AbortSignal.abort();
    await expect(open(actor, name, { signal })).rejects.toMatchObject({ code: 'ABORTED' });
    expect(actor.context.background.size).toBe(0);
  });

  test('names options that do not exist, and what is of another type', async () => {
    const actor = await world.actor();
    const name = world.name();
    const fallback = { default: { port: 1 } };
    await expect(open(actor, name, { defualt: 1 } as object)).rejects.toThrow(/mean 'default'/);
    await expect(open(actor, name, { codec: {} as never })).rejects.toThrow(/'codec'/);
    await expect(Config.open(actor.context, name, null as never)).rejects.toThrow(/'options'/);
    await using config = await open(actor, name, fallback);
    await expect(config.update(1 as never)).rejects.toThrow(/'change'/);
    await expect(config.set({ port: 2 }, { timeuot: 1 } as object)).rejects.toThrow(/'timeuot'/);
    actor.faults.plan = ({ write }) => (write ? 'refuse' : 'pass');
    const late = config.set({ port: 3 }, { timeout: '20ms' });
    await expect(late).rejects.toMatchObject({ code: 'TIMEOUT', outcome: 'not-applied' });
  });

  test('wrong use: closing twice is harmless, what is not valid is refused, bad input is named', async () => {
    const actor = await world.actor();
    const name = world.name();
    const config = await open(actor, name, { default: { port: 1 } });
    const bad = { port: 'x' } as never;
    await expect(config.set(bad)).rejects.toThrow(/'value'.*port: not a number/);
    await expect(config.update(() => bad)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await expect(open(actor, name, { default: bad })).rejects.toThrow(/'default'/);
    await expect(open(actor, name, { schema: {} as never })).rejects.toThrow(/'schema'/);
    await expect(open(actor, '')).rejects.toThrow(/'name'/);
    await expect(open(actor, name, { recheck: 1 })).rejects.toThrow(/'recheck'/);
    await expect(open(actor, name, { retries: -1 })).rejects.toThrow(/'retries'/);
    await expect(config.at(0n)).rejects.toThrow(/'revision'/);
    expect(await kv().get(keyOf(name))).toBeNull();
    let isOver = false;
    config.changes$.subscribe({
      complete: () => {
        isOver = true;
      },
    });
    await Promise.all([config.close(), config.close()]);
    await config[Symbol.asyncDispose]();
    expect([isOver, config.value.port]).toEqual([true, 1]);
    await expect(config.set({ port: 2 })).rejects.toMatchObject({ code: 'CLOSED' });
  });
});
