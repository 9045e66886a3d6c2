/** Sessions that live only while their process is well. */
import { afterEach, describe, expect, test } from 'vitest';
import { CheckedHealth } from '../../recipes/common/session-health.ts';
import { Conclave, connect } from '../../recipes/connect.ts';
import { lockPrefix } from '../../recipes/names.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { storeMissing } from '../support/store.ts';
import { eventually, settle, useWorld } from './world.ts';

describe.skipIf(storeMissing)('a session that is bound to a health check', () => {
  const world = useWorld();
  const opened: Conclave[] = [];
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((conclave) => conclave.close()));
  });
  const open = async () => {
    const conclave = await connect({ endpoints: [...world.endpoints()] });
    opened.push(conclave);
    return conclave;
  };
  /** A check that does what it is told, and counts. */
  const setUp = (isWell = true) => {
    const state = { isWell, checks: 0 };
    const check = () => {
      state.checks += 1;
      if (!state.isWell) throw new Error('out of disk');
    };
    return { state, health: { check, interval: '10ms', rise: 2, fall: 3 } as const };
  };
  const leaseOf = (lease: bigint) => world.operator().leases.timeToLive(lease);
  const unwell = {
    code: 'SESSION_LOST',
    message: expect.stringMatching(/its process is not well: out of disk/),
  };

  test('is lost after so many failures in a row, and others get in at once', async () => {
    const { state, health } = setUp();
    const conclave = await open();
    const name = world.name();
    const session = await conclave.session({ health, ttl: '60s' });
    const lock = await session.mutex(name).acquire();
    const other = await world.actor();
    const waiting = (await new Conclave(other.client).session()).mutex(name).acquire();
    // Fewer than it takes, again and again.
    for (let round = 0; round < 3; round++) {
      const before = state.checks;
      state.isWell = false;
      await eventually('a failure', () => state.checks > before);
      state.isWell = true;
      const failed = state.checks;
      await eventually('passes', () => state.checks >= failed + 2);
    }
    expect(session.state).toBe('live');
    state.isWell = false;
    await eventually('the loss', () => session.signal.aborted);
    expect(session.signal.reason).toMatchObject(unwell);
    expect([session.state, lock.isHeld]).toEqual(['lost', false]);
    expect(lock.signal.reason).toMatchObject(unwell);
    await (await waiting).release();
    await eventually('the end of the lease', async () => (await leaseOf(session.lease)) === null);
    // Nobody needs the checks any more.
    const { checks } = state;
    await settle(50);
    expect(state.checks).toBeLessThanOrEqual(checks + 1);
  });

  test('opens once the check passes; a signal ends the wait', async () => {
    const { state, health } = setUp(false);
    const conclave = await open();
    const controller = new AbortController();
    const given = conclave.session({ health, signal: controller.signal });
    const opening = conclave.session({ health });
    let isOpen = false;
    void opening.then(() => {
      isOpen = true;
    });
    await eventually('some checks', () => state.checks > 6);
    controller.abort();
    await expect(given).rejects.toMatchObject({ code: 'ABORTED' });
    expect(isOpen).toBe(false);
    state.isWell = true;
    const session = await opening;
    expect(session.state).toBe('live');
    await session.close();
    expect(session.signal.reason).toMatchObject({ code: 'CLOSED' });
    const { checks } = state;
    await settle(50);
    expect(state.checks).toBe(checks);
  });

  test('what outlives sessions goes on in another one, when the process is well again', async () => {
    const { state, health } = setUp();
    const conclave = await open();
    const name = world.name();
    const session = await conclave.session({ health });
    const terms: bigint[] = [];
    const stop = new AbortController();
    const leading = session.election<string>(name).lead(
      async ({ term, signal }) => {
        terms.push(term);
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
      },
      { value: 'a', signal: stop.signal },
    );
    leading.catch(() => undefined);
    await eventually('the first term', () => terms.length === 1);
    state.isWell = false;
    const candidates = () => session.election<string>(name).candidates();
    await eventually('nobody stands', async () => (await candidates()).length === 0);
    const { checks } = state;
    await eventually('more checks', () => state.checks > checks + 3);
    expect(terms).toHaveLength(1);
    state.isWell = true;
    await eventually('the second term', () => terms.length === 2);
    // The next session is bound as well.
    state.isWell = false;
    await eventually('nobody stands again', async () => (await candidates()).length === 0);
    stop.abort();
    await leading.catch(() => undefined);
  });

  test('with a lock-delay the lease is left to run out', async () => {
    const { state, health } = setUp();
    const session = await (await open()).session({ health, ttl: '30s', lockDelay: '30s' });
    const name = world.name();
    await session.mutex(name).acquire();
    state.isWell = false;
    await eventually('the loss', () => session.signal.aborted);
    await session.close();
    expect(await leaseOf(session.lease)).not.toBeNull();
    const { kvs } = await world.operator().kv.list({ prefix: lockPrefix(name) });
    expect(kvs).toHaveLength(1);
    await world.operator().leases.revoke(session.lease);
  });

  test('a check that does not answer has failed', async () => {
    let answers = true;
    const check = () => (answers ? true : new Promise<never>(() => undefined));
    const health = { check, interval: '10ms', timeout: '20ms', fall: 2 } as const;
    const session = await (await open()).session({ health });
    answers = false;
    await eventually('the loss', () => session.signal.aborted);
    expect(session.signal.reason.message).toMatch(/no answer in 20 ms/);
  });

  test('a session that opens while the checks end with a failure is told of it', async () => {
    const { state, health } = setUp();
    const pace = { clock: new ManualClock(), random: () => 0.5 };
    const checked = new CheckedHealth(pace, { ...health, fall: 1 });
    await checked.untilWell();
    state.isWell = false;
    const told: string[] = [];
    checked.onceUnwell(() => told.push('the first'));
    await eventually('the end of the first', () => told.length === 1);
    checked.onceUnwell(() => told.push('the second'));
    expect(told).toEqual(['the first']);
    await settle();
    expect(told).toEqual(['the first', 'the second']);
  });

  test('goes on from what was found before a pause', async () => {
    const clock = new ManualClock();
    const { state, health } = setUp();
    const checked = new CheckedHealth({ clock, random: () => 0.5 }, { ...health, interval: '1s' });
    const told: string[] = [];
    await checked.untilWell();
    state.isWell = false;
    let stop = checked.onceUnwell((reason) => told.push(reason));
    // The first of these failures does not decide: it was well a moment ago.
    for (const expected of [1, 2]) {
      await eventually(`failure ${expected}`, () => state.checks > expected);
      await settle(5);
      expect(told).toEqual([]);
      clock.advance(1_000);
    }
    await eventually('the end', () => told.length === 1);
    stop();
    // Now it takes so many passes in a row.
    const { checks } = state;
    state.isWell = true;
    let isWell = false;
    const waiting = checked.untilWell().then(() => {
      isWell = true;
    });
    await eventually('a pass', () => state.checks > checks);
    await settle(5);
    expect(isWell).toBe(false);
    clock.advance(1_000);
    await waiting;
    // Those who come while it is known are told as well.
    const listening = checked.onceUnwell(() => undefined);
    await eventually('a check', () => state.checks > checks + 2);
    await checked.untilWell();
    stop = checked.onceUnwell((reason) => told.push(reason));
    stop();
    listening();
  });

  test.each<[string, object, RegExp]>([
    ['no check', { health: {} }, /'health.check'/],
    ['misspelt', { health: { check: () => true, fal: 2 } }, /'health.fal'.*'health.fall'/],
    ['fall', { health: { check: () => true, fall: 0 } }, /'health.fall'/],
    ['null', { health: null }, /'health'/],
    ['an unknown option', { helth: {} }, /'helth'.*'health'/],
  ])('is refused: %s', async (_what, options, message) => {
    const conclave = await open();
    await expect(conclave.session(options as never)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    });
  });
});
