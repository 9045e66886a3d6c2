import { filter, firstValueFrom } from 'rxjs';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../sdk/clock.ts';
import { connectOver } from '../../sdk/connect.ts';
import {
  type Client,
  type ConclaveError,
  connect,
  type Session,
  type SessionState,
  type Suspension,
} from '../../sdk/index.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { TcpProxy } from '../support/proxy.ts';
import { storeMissing, useStore } from '../support/store.ts';
import { waitFor } from '../support/wait.ts';

let draws = 0;
/** No jitter to speak of, and yet no lease id twice. */
const nearHalf = () => 0.5 + (draws++ % 1e6) * 1e-9;

describe.skipIf(storeMissing)('sessions', () => {
  const { store } = useStore();
  let direct: Client;
  let proxy: TcpProxy;
  let clock: ManualClock;
  beforeAll(async () => {
    direct = await connect(store().endpoint);
    proxy = await TcpProxy.to(store().endpoint);
  });
  afterAll(async () => {
    await direct.close();
    await proxy.close();
  });
  beforeEach(() => {
    proxy.heal();
    clock = new ManualClock();
  });
  const open = () =>
    connectOver(
      { connectionClock: systemClock },
      {
        endpoints: proxy.endpoint,
        clock,
        random: nearHalf,
        retry: { minDelay: 5, maxDelay: 20 },
      },
    );
  const until = (session: Session, state: SessionState) =>
    waitFor(`state ${state}`, () => (session.state === state ? true : undefined));
  const renewed = (session: Session, after: number) =>
    waitFor('a renewal', () => (session.validUntilMs > after ? true : undefined));

  test('the deadline counts from when the grant was sent, less a margin', async () => {
    await using client = await open();
    const session = await client.session({ ttl: '20s' });
    expect(session).toMatchObject({ ttlMs: 20_000, state: 'live', onSuspend: 'continue' });
    expect(session.validUntilMs).toBe(clock.monotonicMs() + 19_000);
    expect(BigInt(`0x${session.id}`)).toBe(session.lease);
    session.assertLive();
    expect(await direct.leases.timeToLive(session.lease)).toMatchObject({ grantedTtlMs: 20_000 });
  });

  test('renews after a third of its time; the deadline moves to the sending of the renewal', async () => {
    await using client = await open();
    const session = await client.session({ ttl: '30s' });
    const first = session.validUntilMs;
    clock.advance(7_900);
    expect(session.validUntilMs).toBe(first);
    proxy.holdAnswers();
    const before = proxy.requestBytes;
    clock.advance(1_200);
    const sentAtMs = clock.monotonicMs();
    await waitFor('the renewal to be sent', () => (proxy.requestBytes > before ? true : undefined));
    clock.freeze(5_000);
    proxy.heal();
    await renewed(session, first);
    // The timer fired at 9 s; the answer that came 5 s later has not moved that.
    expect(session.validUntilMs).toBeLessThanOrEqual(sentAtMs + 29_000);
    expect(session.state).toBe('live');
  });

  test('a process that was frozen past the deadline knows it at the next look', async () => {
    await using client = await open();
    const session = await client.session({ ttl: '20s' });
    const signal = session.signal;
    clock.freeze(18_999);
    expect(session.state).not.toBe('lost');
    clock.freeze(1);
    expect(session.state).toBe('lost');
    expect(signal.reason).toMatchObject({ code: 'SESSION_LOST' });
    expect(() => session.assertLive()).toThrow(expect.objectContaining({ code: 'SESSION_LOST' }));
  });

  test('so does one whose machine slept, with a monotonic clock that stood still', async () => {
    await using client = await open();
    const session = await client.session({ ttl: '20s' });
    clock.sleep(19_000);
    expect(session.signal.aborted).toBe(true);
    expect(session.state).toBe('lost');
  });

  test('the signal aborts by itself when the deadline passes', async () => {
    await using client = await open();
    const session = await client.session({ ttl: '2s' });
    const { signal } = session;
    proxy.refuse();
    clock.advance(1_800);
    expect(signal.aborted).toBe(true);
  });

  test('failing renewals suspend it; success brings it back', async () => {
    await using client = await open();
    const stop = await client.session({ ttl: '2s', onSuspend: 'stop' });
    const goOn = await client.session({ ttl: '2s' });
    const states: SessionState[] = [];
    stop.state$.subscribe((state) => states.push(state));
    proxy.refuse();
    clock.advance(700);
    await until(stop, 'suspended');
    await until(goOn, 'suspended');
    expect(() => stop.assertLive()).toThrow(
      expect.objectContaining({ code: 'SESSION_SUSPENDED', retryable: true }),
    );
    goOn.assertLive();
    expect(stop.signal.aborted).toBe(false);
    proxy.heal();
    await waitFor('both to be live', () => {
      clock.advance(5);
      return stop.state === 'live' && goOn.state === 'live' ? true : undefined;
    });
    expect(states).toEqual(['live', 'suspended', 'live']);
  });

  test('a policy decides what a suspension means, by how long it lasts', async () => {
    await using client = await open();
    const seen: Suspension[] = [];
    const session = await client.session({
      ttl: '30s',
      onSuspend: (suspension) => {
        seen.push(suspension);
        return suspension.remainingMs > 5_000 ? 'continue' : 'stop';
      },
    });
    session.assertLive();
    expect(seen).toEqual([]);
    clock.freeze(21_000);
    session.assertLive();
    clock.freeze(4_000);
    expect(() => session.assertLive()).toThrow(
      expect.objectContaining({ code: 'SESSION_SUSPENDED' }),
    );
    expect(seen).toEqual([
      { unrenewedMs: 21_000, remainingMs: 8_000 },
      { unrenewedMs: 25_000, remainingMs: 4_000 },
    ]);
  });

  test('its terms open another of the same kind', async () => {
    await using client = await open();
    const given = { ttl: '20s', lockDelay: '5s', onSuspend: 'stop', meta: { host: 'a' } } as const;
    const first = await client.session(given);
    const second = await client.session(first.terms);
    expect(second.id).not.toBe(first.id);
    expect(second).toMatchObject({ ttlMs: 20_000, onSuspend: 'stop', meta: { host: 'a' } });
    expect(await direct.leases.timeToLive(second.lease)).toMatchObject({ grantedTtlMs: 25_000 });
  });

  test('an overdue renewal suspends it even if no attempt has failed yet', async () => {
    await using client = await open();
    const session = await client.session({ ttl: '30s' });
    clock.freeze(20_001);
    expect(session.state).toBe('suspended');
  });

  test('is lost when the store has forgotten its lease', async () => {
    await using client = await open();
    const session = await client.session({ ttl: '20s' });
    await direct.leases.revoke(session.lease);
    clock.advance(6_700);
    await until(session, 'lost');
    expect(session.signal.reason).toMatchObject({ code: 'SESSION_LOST' });
    expect(clock.timers).toBe(0);
  });

  test('a renewal that gets no answer gives its connection up', async () => {
    await using client = await open();
    const session = await client.session({ ttl: '2s' });
    const accepted = proxy.accepted;
    client.events$.subscribe(({ type }) => {
      if (type === 'disconnected') proxy.heal();
    });
    proxy.stall();
    clock.advance(650);
    await until(session, 'suspended');
    await waitFor('a new connection to renew it', () => {
      clock.advance(5);
      return session.state === 'live' ? true : undefined;
    });
    expect(proxy.accepted).toBeGreaterThan(accepted);
  });

  test('is taken over by id, and only while its lease lives', async () => {
    await using client = await open();
    const first = await client.session({ ttl: '20s' });
    const second = await direct.session({ resume: first.id });
    expect(second).toMatchObject({ id: first.id, ttlMs: 20_000 });
    // Whoever opens another like it opens one that lives as long.
    expect(second.terms.ttl).toBe(20_000);
    await second.close();
    await expect(direct.session({ resume: first.lease })).rejects.toMatchObject({
      code: 'SESSION_LOST',
    });
  });

  test('cannot be resumed with a lock-delay that leaves nothing of its lease', async () => {
    const first = await direct.session({ ttl: '20s' });
    const options = { resume: first.id, lockDelay: '20s' };
    await expect(direct.session(options)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining("'lockDelay'"),
    });
    expect(await direct.leases.timeToLive(first.lease)).not.toBeNull();
    await first.close();
  });

  test('with a lock delay the lease outlives the session', async () => {
    await using client = await open();
    const session = await client.session({ ttl: '20s', lockDelay: '10s' });
    expect(session.ttlMs).toBe(20_000);
    expect(await direct.leases.timeToLive(session.lease)).toMatchObject({ grantedTtlMs: 30_000 });
    clock.freeze(19_000);
    expect(session.state).toBe('lost');
    expect(await direct.leases.timeToLive(session.lease)).not.toBeNull();
  });

  test('a renewal brings back the time to live, and not the lock delay', async () => {
    await using client = await open();
    const session = await client.session({ ttl: '20s', lockDelay: '10s' });
    const first = session.validUntilMs;
    clock.advance(6_700);
    await renewed(session, first);
    expect(session.ttlMs).toBe(20_000);
    expect(session.validUntilMs).toBeLessThanOrEqual(clock.monotonicMs() + 19_000);
  });

  test('closing revokes: keys go at once, and closing again does nothing', async () => {
    await using client = await open();
    const session = await client.session({ ttl: '20s' });
    await client.kv.put('session/key', '', { lease: session.lease });
    const ended: string[] = [];
    session.state$.subscribe({ complete: () => ended.push('state$') });
    session.errors$.subscribe({ complete: () => ended.push('errors$') });
    await session.close();
    await session.close();
    expect(await direct.kv.get('session/key')).toBeNull();
    expect(session.signal.reason).toMatchObject({ code: 'CLOSED' });
    expect(() => session.assertLive()).toThrow(expect.objectContaining({ code: 'CLOSED' }));
    expect(ended).toEqual(['state$', 'errors$']);
    expect(clock.timers).toBe(0);
  });

  test('closing does not fail when the store cannot be reached; it says so', async () => {
    await using client = await open();
    const session = await client.session({ ttl: '2s' });
    const errors: ConclaveError[] = [];
    session.errors$.subscribe((error) => errors.push(error));
    const disconnected = firstValueFrom(
      client.events$.pipe(filter(({ type }) => type === 'disconnected')),
    );
    proxy.refuse();
    await disconnected;
    await session.close();
    expect(errors).toMatchObject([{ code: 'UNREACHABLE' }]);
    proxy.heal();
  });

  test('closing the client closes its sessions', async () => {
    const client = await open();
    const session = await client.namespace('x/').session({ ttl: '20s' });
    await client.close();
    expect(await direct.leases.timeToLive(session.lease)).toBeNull();
    await expect(client.session()).rejects.toMatchObject({ code: 'CLOSED' });
  });

  test('a release is repeated until it is done, reporting what it throws', async () => {
    await using client = await open();
    const session = await client.session({ ttl: '20s' });
    const errors: ConclaveError[] = [];
    session.errors$.subscribe((error) => errors.push(error));
    let calls = 0;
    session.reap(async () => {
      calls += 1;
      if (calls === 1) throw new Error('not yet');
      return calls === 3;
    });
    await waitFor('three calls', () => {
      clock.advance(20);
      return calls === 3 ? true : undefined;
    });
    clock.advance(1_000);
    expect(calls).toBe(3);
    expect(errors).toMatchObject([{ code: 'INTERNAL', message: 'not yet' }]);
  });

  test('a release is not repeated beyond the life of the session', async () => {
    await using client = await open();
    const session = await client.session({ ttl: '20s' });
    let calls = 0;
    session.reap(async () => {
      calls += 1;
      return false;
    });
    await waitFor('a call', () => (calls > 0 ? true : undefined));
    await session.close();
    const atClose = calls;
    clock.advance(60_000);
    await new Promise(setImmediate);
    expect(calls).toBe(atClose);
  });

  test('lives on real time as long as it is renewed', async () => {
    const session = await direct.session({ ttl: '2s' });
    const { validUntilMs } = session;
    await waitFor('two renewals', () =>
      session.validUntilMs > validUntilMs + 1_000 ? true : undefined,
    );
    expect(session.state).toBe('live');
    expect((await direct.leases.timeToLive(session.lease))?.ttlMs).toBeGreaterThan(0);
    await session.close();
  });

  test.each([
    ['ttl', { ttl: 0 }],
    ['ttl', { ttl: 'soon' }],
    ['lockDelay', { lockDelay: -1 }],
    ['lockDelay', { resume: 'abc', lockDelay: 'late' }],
    ['onSuspend', { onSuspend: 'panic' as never }],
    ['keepAlive', { keepAlive: 'worker' as never }],
    ['maxBlock', { keepAlive: 'thread' as const, maxBlock: '999ms' }],
    ['resume', { resume: '' }],
    ['resume', { resume: 'not hexadecimal' }],
    ['resume', { resume: 0n }],
    ['resume', { resume: 12 as never }],
    ['resumeWithin', { resume: 'abc', resumeWithin: -1 }],
    ['resume', { resumes: 'abc' } as never],
  ])('refuses a bad %s', async (field, options) => {
    await expect(direct.session(options)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(`'${field}'`),
    });
  });
});
