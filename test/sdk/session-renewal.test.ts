/** How a session divides its time among attempts to renew, on a clock and a link that a test moves. */
import { Status } from 'nice-grpc-common';
import { expect, test } from 'vitest';
import type { Client } from '../../sdk/client.ts';
import type { Connection } from '../../sdk/connection.ts';
import { EventSource } from '../../sdk/observe.ts';
import { LeaseSession, type SessionContext } from '../../sdk/session-client.ts';
import { instantOf } from '../../sdk/session-deadline.ts';
import { TransportFailure } from '../../sdk/transport.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { waitFor } from '../support/wait.ts';

type Attempt = { readonly atMs: number; readonly linkMs: number; callMs?: number };

/** Links come after `linkDelayMs`, and no call on them is answered in its time. */
class SilentStore {
  readonly clock = new ManualClock();
  readonly attempts: Attempt[] = [];
  suspected = 0;
  linkDelayMs = 0;

  session(ttlMs: number): LeaseSession {
    const connection = {
      random: () => 0.5,
      retry: { retries: 10, minDelayMs: 25, maxDelayMs: 1_000 },
      link: async (timeoutMs: number) => {
        const attempt: Attempt = { atMs: this.clock.monotonicMs(), linkMs: timeoutMs };
        this.attempts.push(attempt);
        this.clock.freeze(this.linkDelayMs);
        return { unary: this.#call(attempt) };
      },
      endpoints: ['only'],
      suspect: () => {
        this.suspected += 1;
      },
    };
    const context = {
      client: { events$: new EventSource().observable } as unknown as Client,
      connection: connection as unknown as Connection,
      clock: this.clock,
      kv: {} as never,
      onEnd: () => undefined,
    } satisfies SessionContext;
    const sentAt = instantOf(this.clock);
    const session = new LeaseSession(
      context,
      {},
      { lease: 1n, sentAt, ttlMs, lockDelayMs: 0, maxBlockMs: 0 },
    );
    void session.startRenewing();
    return session;
  }

  #call(attempt: Attempt) {
    return async (_method: string, _request: unknown, options: { timeoutMs: number }) => {
      attempt.callMs = options.timeoutMs;
      this.clock.freeze(options.timeoutMs);
      throw new TransportFailure('timeout', Status.DEADLINE_EXCEEDED, 'silent', true);
    };
  }
}

test('an attempt has one deadline over link and call, so that another fits in', async () => {
  const store = new SilentStore();
  store.linkDelayMs = 3_000;
  const session = store.session(15_000);
  const bornMs = store.clock.monotonicMs();
  await waitFor('the session to be lost', () => {
    store.clock.advance(100);
    return session.state === 'lost' || undefined;
  });
  const [first, second] = store.attempts;
  if (first === undefined || second === undefined) throw new Error('fewer than two attempts');
  expect(first).toMatchObject({ linkMs: 5_000, callMs: 2_000 });
  // Soon after the first has failed, with time left to be answered.
  const failedMs = first.atMs + 5_000;
  expect(second.atMs - failedMs).toBeLessThanOrEqual(200);
  expect(bornMs + 14_000 - second.atMs).toBeGreaterThan(3_500);
});

test('a link that came late is not given up for what it could not answer in the rest', async () => {
  const store = new SilentStore();
  store.linkDelayMs = 4_900;
  store.session(15_000);
  const call = (index: number) =>
    waitFor('a call', () => {
      const { callMs } = store.attempts[index] ?? {};
      if (callMs === undefined) store.clock.advance(100);
      return callMs;
    });
  expect(await call(0)).toBeCloseTo(100);
  expect(store.suspected).toBe(0);
  store.linkDelayMs = 0;
  await call(1);
  expect(store.suspected).toBe(1);
});
