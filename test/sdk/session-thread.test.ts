/** Sessions that a thread renews: processes that block their event loop, and what is between the threads. */
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Conclave, connect as connectRecipes } from '../../recipes/connect.ts';
import { systemClock } from '../../sdk/clock.ts';
import { parseEndpoints } from '../../sdk/endpoints.ts';
import { type Client, ConclaveError, connect } from '../../sdk/index.ts';
import { LeaseCells, PulseCell } from '../../sdk/keep-alive-cells.ts';
import { KeepAliveThread, type Seat, type ThreadLease } from '../../sdk/keep-alive-thread.ts';
import { parseRetry } from '../../sdk/retry.ts';
import { LeaseSession, type SessionContext } from '../../sdk/session-client.ts';
import { instantOf } from '../../sdk/session-deadline.ts';
import type { BlockingOrder } from '../support/blocking-child.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { commandExists, freePort } from '../support/process.ts';
import { storeMissing, useStore } from '../support/store.ts';
import { waitFor, within } from '../support/wait.ts';

const source = [
  '--import',
  'tsx',
  new URL('../support/blocking-child.ts', import.meta.url).pathname,
];
const built = [new URL('../../dist/test/support/blocking-child.js', import.meta.url).pathname];

type Line = {
  readonly lease?: string;
  readonly belief?: string;
  readonly remainingMs?: number;
  readonly active?: readonly string[];
};

/** A child that blocks; its lines, and whether it ended well. */
const blocking = (program: readonly string[], order: BlockingOrder) => {
  const child = spawn(process.execPath, [...program, JSON.stringify(order)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = new Promise<number | null>((resolve) => child.once('exit', resolve));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    line: async (): Promise<Line> => {
      const { value, done } = await within(lines.next(), 45_000, 'a line of the child');
      if (done) throw new Error('the child ended early');
      return JSON.parse(value);
    },
    exited: () => within(exited, 20_000, 'the end of the child'),
    [Symbol.dispose]: () => child.kill('SIGKILL'),
  };
};

/** A loaded machine takes its time to start processes. */
const patient = { timeout: 90_000 };

describe.skipIf(storeMissing)('a process that blocks its event loop', patient, () => {
  const { store } = useStore();
  let conclave: Conclave;
  beforeAll(async () => {
    conclave = await connectRecipes(store().endpoint);
  });
  afterAll(() => conclave.close());

  test.concurrent.each([
    ['from its sources', source],
    ['as it is built', built],
  ])('keeps its lock beyond the TTL with a thread, %s', async (_, program) => {
    const name = `thread/${program.length}`;
    const dead = `127.0.0.1:${await freePort()}`;
    using child = blocking(program, {
      endpoints: [dead, store().endpoint],
      name,
      session: { ttl: '2s', keepAlive: 'thread', onSuspend: 'stop' },
      blockMs: 3_000,
    });
    await child.line();
    await using session = await conclave.session();
    const waiting = session.mutex(name).acquire();
    let got = false;
    void waiting.then(() => {
      got = true;
    });
    const after = await child.line();
    expect(after.belief).toBe('held');
    expect(after.remainingMs).toBeGreaterThan(0);
    expect(got).toBe(false);
    // Its thread ends with its session, and it with its client.
    expect(await child.line()).toEqual({ active: [] });
    expect(await child.exited()).toBe(0);
    await (await waiting).release();
  });

  test.concurrent('loses it when blocked for longer than it may, and sees so at once', async () => {
    using child = blocking(source, {
      endpoints: [store().endpoint],
      name: 'thread/stuck',
      session: { ttl: '2s', keepAlive: 'thread', maxBlock: '1s' },
      blockMs: 6_000,
    });
    await child.line();
    await using session = await conclave.session();
    // Granted while the other is stuck: 1 s without a sign of life, then its lease runs out.
    const lock = await session.mutex('thread/stuck').acquire({ timeout: 5_800 });
    expect((await child.line()).belief).toBe('SESSION_LOST');
    await lock.release();
    expect(await child.line()).toEqual({ active: [] });
    expect(await child.exited()).toBe(0);
  });

  test.concurrent('loses it without a thread, and sees so at once', async () => {
    using child = blocking(built, {
      endpoints: [store().endpoint],
      name: 'thread/none',
      session: { ttl: '2s' },
      blockMs: 2_000,
    });
    await child.line();
    expect((await child.line()).belief).toBe('SESSION_LOST');
  });
});

describe.skipIf(!commandExists('etcd') || !commandExists('openssl'))('with TLS', () => {
  test('the thread connects with the certificates of the client', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'conclave-tls-'));
    const [port, peerPort] = [await freePort(), await freePort()];
    const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1'];
    const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
    const files = ['-keyout', key, '-out', cert];
    const request = spawn('openssl', [
      'req',
      '-x509',
      ...curve,
      ...files,
      '-days',
      '2',
      ...subject,
    ]);
    await new Promise((resolve) => request.once('exit', resolve));
    const url = `https://127.0.0.1:${port}`;
    const peer = `http://127.0.0.1:${peerPort}`;
    const etcd = spawn(
      'etcd',
      [
        ['--data-dir', join(folder, 'data'), '--name', 'one'],
        ['--listen-client-urls', url, '--advertise-client-urls', url],
        ['--cert-file', cert, '--key-file', key, '--trusted-ca-file', cert, '--client-cert-auth'],
        ['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer],
        ['--initial-cluster', `one=${peer}`],
      ].flat(),
      { stdio: 'ignore' },
    );
    try {
      const pem = { cert: await readFile(cert, 'utf8'), key: await readFile(key) };
      const tls = { ca: await readFile(cert), ...pem };
      await using client = await connect({ endpoints: url, tls });
      await using session = await client.session({ ttl: '2s', keepAlive: 'thread' });
      const opened = session.validUntilMs;
      await waitFor('a renewal', () => (session.validUntilMs > opened ? true : undefined));
      expect(session.state).toBe('live');
    } finally {
      etcd.kill('SIGKILL');
      await rm(folder, { recursive: true, force: true });
    }
  });
});

describe.skipIf(storeMissing)('the thread of a client', () => {
  const { store } = useStore();

  test('serves its sessions together, and ends with the last of them', async () => {
    await using client = await connect(store().endpoint);
    const threads = () =>
      process.getActiveResourcesInfo().filter((name) => name === 'MessagePort').length;
    const before = threads();
    const [one, two] = await Promise.all([
      client.session({ keepAlive: 'thread' }),
      client.session({ keepAlive: 'thread' }),
    ]);
    await one.close();
    const opened = two.validUntilMs;
    expect(two.state).toBe('live');
    await two.close();
    expect(opened).toBeGreaterThan(performance.now());
    await waitFor('the end of the thread', () => (threads() <= before ? true : undefined));
    // And another starts with the next.
    await using three = await client.session({ keepAlive: 'thread' });
    expect(three.state).toBe('live');
  });

  test('notices that the store has forgotten the lease', async () => {
    await using client = await connect(store().endpoint);
    const session = await client.session({ ttl: '2s', keepAlive: 'thread' });
    await client.leases.revoke(session.lease);
    await waitFor('the loss', () => (session.state === 'lost' ? true : undefined));
    expect(session.signal.reason).toMatchObject({
      code: 'SESSION_LOST',
      message: expect.stringContaining('does not know its lease'),
    });
  });

  test('is refused where time is made up', async () => {
    await using client = await connect({ endpoints: store().endpoint, clock: { ...systemClock } });
    await expect(client.session({ keepAlive: 'thread' })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining("'keepAlive'"),
    });
  });
});

describe('a seat in the thread', () => {
  const open = () =>
    new KeepAliveThread(
      {
        endpoints: parseEndpoints('127.0.0.1:1'),
        retry: parseRetry(),
        requestTimeoutMs: 1_000,
      },
      systemClock,
    );

  test('that was lost before there was a lease to keep says so to the lease', async () => {
    const thread = open();
    const started = new Promise<Worker>((resolve) => process.once('worker', resolve));
    const seat = await thread.seat();
    const worker = await started;
    const exited = new Promise((resolve) => worker.once('exit', resolve));
    await Promise.all([exited, worker.terminate()]);
    const deaths: string[] = [];
    seat.keep({
      lease: 1n,
      ttlMs: 10_000,
      ageMs: 0,
      lockDelayMs: 0,
      maxBlockMs: 1_000,
      onNews: () => undefined,
      onDeath: ({ code }) => deaths.push(code),
    });
    expect(deaths).toEqual(['INTERNAL']);
    seat.leave();
  });

  test('is not waited for by a caller that aborts, and the thread ends if nobody else wants one', async () => {
    const thread = open();
    const controller = new AbortController();
    const started = new Promise<Worker>((resolve) => process.once('worker', resolve));
    const seat = thread.seat(controller.signal);
    const exited = started.then((worker) => new Promise((resolve) => worker.once('exit', resolve)));
    controller.abort();
    await expect(seat).rejects.toMatchObject({ code: 'ABORTED' });
    await exited;
    await expect(thread.seat(controller.signal)).rejects.toMatchObject({ code: 'ABORTED' });
  });
});

describe('between the threads', () => {
  /** A session in the hands of a thread that the test plays. */
  const open = async (clock: ManualClock, ttlMs = 10_000) => {
    const cells = new LeaseCells();
    let kept: ThreadLease | undefined;
    let left = false;
    const seat: Seat = {
      cells,
      keep: (lease) => {
        kept = lease;
      },
      leave: () => {
        left = true;
      },
    };
    let asked = 0;
    const link = async () => {
      asked += 1;
      return { unary: async () => ({ TTL: 10n }) };
    };
    const connection = { random: () => 0.5, retry: {}, endpoints: ['only'], link };
    const context = {
      client: {} as Client,
      connection: connection as unknown as SessionContext['connection'],
      clock,
      kv: {} as never,
      onEnd: () => undefined,
    } satisfies SessionContext;
    const opened = { lease: 1n, ttlMs, lockDelayMs: 0, maxBlockMs: 1_000, seat };
    const session = new LeaseSession(context, {}, { ...opened, sentAt: instantOf(clock) });
    const starting = session.startRenewing();
    const renew = () => {
      cells.renewed(clock, instantOf(clock));
      kept?.onNews(undefined);
    };
    renew();
    await starting;
    return {
      session,
      cells,
      renew,
      thread: () => kept as ThreadLease,
      left: () => left,
      asked: () => asked,
    };
  };

  test('what was renewed while the loop was blocked counts before any message arrives', async () => {
    const clock = new ManualClock();
    const { session, cells } = await open(clock);
    clock.freeze(6_000);
    cells.renewed(clock, instantOf(clock));
    clock.freeze(6_000);
    expect(session.state).toBe('live');
    clock.freeze(3_001);
    expect(session.state).toBe('lost');
  });

  test('a failure suspends until the next success', async () => {
    const { session, cells, renew, thread } = await open(new ManualClock());
    const errors: string[] = [];
    session.errors$.subscribe(({ code }) => errors.push(code));
    cells.condition = 'failing';
    thread().onNews(new ConclaveError('UNREACHABLE', 'for now'));
    expect(session.state).toBe('suspended');
    expect(errors).toEqual(['UNREACHABLE']);
    renew();
    expect(session.state).toBe('live');
  });

  test.each(['gone', 'late'] as const)(
    'a lease that is %s is a lost session',
    async (condition) => {
      const { session, cells, left } = await open(new ManualClock());
      cells.condition = condition;
      expect(() => session.assertLive()).toThrow(expect.objectContaining({ code: 'SESSION_LOST' }));
      expect(left()).toBe(true);
    },
  );

  test('when the thread dies the loop goes on renewing', async () => {
    const clock = new ManualClock();
    const { session, thread, asked } = await open(clock);
    const errors: string[] = [];
    session.errors$.subscribe(({ code }) => errors.push(code));
    thread().onDeath(new ConclaveError('INTERNAL', 'the thread ended'));
    expect(errors).toEqual(['INTERNAL']);
    await waitFor('a renewal at once', () => {
      clock.advance(0);
      return asked() > 0 ? true : undefined;
    });
    expect(session.state).toBe('live');
  });

  test('times are never read in the middle of being written', () => {
    const clock = new ManualClock();
    const cells = new LeaseCells();
    expect(cells.lastSentAt(clock)).toBeUndefined();
    cells.renewed(clock, instantOf(clock));
    expect(cells.lastSentAt(clock)?.wallMs).toBe(clock.wallMs());
    // A writer that was ended in the middle leaves an odd version behind.
    new BigInt64Array(cells.memory)[0] = 3n;
    expect(cells.lastSentAt(clock)).toBeUndefined();
  });

  test('a pulse ages', async () => {
    const pulse = new PulseCell();
    pulse.beat();
    const same = new PulseCell(pulse.memory);
    expect(same.ageMs).toBeLessThan(1_000);
    await waitFor('an older pulse', () => (same.ageMs > 5 ? true : undefined));
    pulse.beat();
    expect(same.ageMs).toBeLessThan(5_000);
  });
});
