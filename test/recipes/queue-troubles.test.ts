/** Queues and workers when the store refuses, does not answer, or forgets to tell. */
import { getEventListeners } from 'node:events';
import { describe, expect, test } from 'vitest';
import { Conclave } from '../../recipes/connect.ts';
import { queueKeys } from '../../recipes/names.ts';
import type { Handler, WorkerEvent } from '../../recipes/queue/job.ts';
import { Queue } from '../../recipes/queue/queue.ts';
import { QueueConsumer } from '../../recipes/queue/queue-consumer.ts';
import { Worker, type WorkerOptions } from '../../recipes/queue/worker.ts';
import { connect } from '../../sdk/connect.ts';
import { ConclaveError } from '../../sdk/errors.ts';
import type { TxnParts } from '../../sdk/txn.ts';
import type { Call } from '../support/faulty-kv.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { TcpProxy } from '../support/proxy.ts';
import { storeMissing } from '../support/store.ts';
import { within } from '../support/wait.ts';
import { type Actor, compactTo, deafContext, eventually, settle, useWorld } from './world.ts';

describe.skipIf(storeMissing)('queues in trouble', () => {
  const world = useWorld();
  const queueOf = (actor: Actor, name: string) => new Queue<number>(actor.context, name);
  const workerOf = <R>(
    actor: Pick<Actor, 'context'>,
    name: string,
    handler: Handler<number, R>,
    options: WorkerOptions<number> = {},
  ) => {
    const worker = new Worker<number, R>(actor.context, name, handler, options);
    const events: WorkerEvent<number, R>[] = [];
    worker.events$.subscribe((event) => events.push(event));
    const count = (type: WorkerEvent['type']) =>
      events.filter((event) => event.type === type).length;
    const happened = (type: WorkerEvent['type'], times = 1) =>
      eventually(`${times} of ${type}`, () => count(type) >= times);
    return { worker, events, count, happened };
  };
  const putsIn = (parts: TxnParts, prefix: string): boolean =>
    parts.success.some((part) =>
      part.kind === 'txn'
        ? putsIn(part.txn.parts, prefix)
        : part.kind === 'put' && String(part.key).startsWith(prefix),
    );
  const puts = ({ parts }: Call, prefix: string) => parts !== undefined && putsIn(parts, prefix);
  const forever = () => new Promise<never>(() => undefined);
  /** Moves the clock on until the work has ended. */
  const driven = async <T>(clock: ManualClock, work: Promise<T>, limitMs = 60_000): Promise<T> => {
    let over = false;
    const ended = () => {
      over = true;
    };
    work.then(ended, ended);
    for (let ms = 0; !over && ms < limitMs; ms += 250) {
      clock.advance(250);
      await settle(5);
    }
    if (!over) throw new Error(`not over after ${limitMs} ms`);
    return work;
  };

  test('a job whose claim the store refused stays in sight of its worker', async () => {
    const actor = await world.actor();
    const name = world.name();
    let refusals = 0;
    actor.faults.before = (call) => {
      if (!puts(call, queueKeys(name).claim) || refusals === 1) return;
      refusals += 1;
      throw new ConclaveError('NO_SPACE', 'the disk is full');
    };
    // After its first sweep nothing but the watch and the window tell it of jobs.
    const { happened, count } = workerOf(actor, name, ({ data }) => data, { sweepEvery: '1h' });
    await eventually('the watch', () =>
      actor.faults.calls.some(
        ({ kind, range }) => kind === 'watch' && JSON.stringify(range)?.includes('/ready/'),
      ),
    );
    await eventually('a sweep', () =>
      actor.faults.calls.some(({ kind, write }) => kind === 'txn' && !write),
    );
    await settle();
    await queueOf(actor, name).push(1);
    await happened('done');
    expect(refusals).toBe(1);
    expect(count('error')).toBe(1);
  });

  test('a sweep finds ready jobs that no watch reported', async () => {
    const actor = await world.actor();
    const name = world.name();
    const context = deafContext(actor);
    const { happened } = workerOf({ context }, name, ({ data }) => data, {
      sweepEvery: 50,
      concurrency: 2,
    });
    await eventually('some sweeps', () => {
      const sweeps = actor.faults.calls.filter(({ kind, write }) => kind === 'txn' && !write);
      return sweeps.length > 2;
    });
    await queueOf(actor, name).push(1);
    await happened('done');
  });

  test('what a watch tells while a listing is under way outlives its answer', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const queue = queueOf(b, name);
    const { ready } = queueKeys(name);
    const { worker, happened } = workerOf(a, name, ({ data }) => data, { sweepEvery: '1h' });
    await queue.push(1);
    await happened('done');
    await settle();
    const consumer = new QueueConsumer<number>(a.context, name);
    const watches = () =>
      a.faults.calls.filter(({ kind, range }) => kind === 'watch' && range !== undefined).length;
    const watchesBefore = watches();
    const following = new AbortController();
    let told = 0;
    void consumer.window.follow(following.signal, (count) => {
      told += count;
    });
    // The worker's own watches do not count.
    await eventually('the watch', () => watches() > watchesBefore);
    await worker.close();
    // Told by the watch after the listing was made and before its answer is heard.
    let pushed = false;
    a.faults.after = async ({ kind, range }) => {
      if (kind !== 'list' || !JSON.stringify(range).includes(ready) || pushed) return;
      pushed = true;
      const before = told;
      await queue.push(2);
      await eventually('the news', () => told > before);
    };
    await consumer.sweep();
    const claim = await consumer.claim();
    expect(pushed).toBe(true);
    expect(claim?.data).toBe(2);
    following.abort();
  });

  test('a worker closes in time although the store answers no call', async () => {
    const actor = await world.actor();
    const name = world.name();
    await queueOf(actor, name).push(1);
    const { worker, happened } = workerOf(actor, name, forever, { visibility: '1h' });
    await happened('claimed');
    actor.faults.plan = () => 'refuse';
    await within(worker.close({ grace: 0 }), 9_000, 'closing');
  });

  test('a worker that could not introduce itself yet closes in time', async () => {
    const actor = await world.actor();
    actor.faults.plan = () => 'refuse';
    const { worker } = workerOf(actor, world.name(), forever);
    await settle();
    await within(worker.close({ grace: 0 }), 9_000, 'closing');
  });

  test('everything closes in time although the connection is dead', async () => {
    const { endpoint } = world;
    await using proxy = await TcpProxy.to(endpoint());
    const conclave = new Conclave(
      await connect({ endpoints: proxy.endpoint, requestTimeout: '1s' }),
    );
    const session = await conclave.session({ ttl: '1h' });
    const name = world.name();
    await session.queue<number>(name).push(1);
    const worker = session.worker<number>(name, forever, { visibility: '1h' });
    const claimed = new Promise<void>((resolve) => {
      worker.events$.subscribe(({ type }) => type === 'claimed' && resolve());
    });
    await claimed;
    await session.discovery(name).register({ address: 'x:1', meta: {} });
    proxy.stall();
    const closed = worker.close({ grace: 0 });
    await within(Promise.all([closed, conclave.close()]), 14_000, 'closing');
  }, 20_000);

  test('settling ends with the claim, and says whether it may have taken effect', async () => {
    const clock = new ManualClock();
    const actor = await world.actor({ clock, ttl: '1h' });
    const name = world.name();
    const queue = queueOf(actor, name);
    for (const [fate, outcome] of [
      ['refuse', 'not-applied'],
      ['linger', 'unknown'],
    ] as const) {
      await queue.push(1);
      const consumer = new QueueConsumer<number>(actor.context, name, { visibility: '10s' });
      const claim = await consumer.claim();
      actor.faults.plan = () => fate;
      const acked = claim?.ack();
      acked?.catch(() => undefined);
      await expect(driven(clock, acked ?? forever())).rejects.toMatchObject({
        code: 'CLAIM_LOST',
        outcome,
      });
      expect(claim?.signal.reason).toMatchObject({ code: 'CLAIM_LOST' });
      actor.faults.heal();
    }
  });

  test('settling ends with the session', async () => {
    const actor = await world.actor({ ttl: '2s' });
    const name = world.name();
    await queueOf(actor, name).push(1);
    const claim = await new QueueConsumer<number>(actor.context, name).claim();
    actor.faults.plan = () => 'refuse';
    const acked = claim?.ack();
    await actor.killLease();
    await expect(acked).rejects.toMatchObject({ code: 'SESSION_LOST' });
  });

  test('a claim that could not be settled still ends at its deadline', async () => {
    const clock = new ManualClock();
    const actor = await world.actor({ clock, ttl: '1h' });
    const name = world.name();
    await queueOf(actor, name).push(1);
    const consumer = new QueueConsumer<number>(actor.context, name, { visibility: '10s' });
    const claim = await consumer.claim();
    actor.faults.before = ({ write }) => {
      if (write) throw new ConclaveError('NO_SPACE', 'the disk is full');
    };
    await expect(claim?.nack()).rejects.toMatchObject({ code: 'NO_SPACE' });
    claim?.assertHeld();
    clock.advance(10_000);
    expect(claim?.signal.aborted).toBe(true);
  });

  test('a lost claim no longer listens to its session', async () => {
    const clock = new ManualClock();
    const actor = await world.actor({ clock, ttl: '1h' });
    const name = world.name();
    await queueOf(actor, name).push(1);
    const consumer = new QueueConsumer<number>(actor.context, name, { visibility: '10s' });
    const listeners = () => getEventListeners(actor.session.signal, 'abort').length;
    await consumer.close();
    const before = listeners();
    const another = new QueueConsumer<number>(actor.context, name, { visibility: '10s' });
    const claim = await another.claim();
    expect(listeners()).toBe(before + 1);
    clock.advance(10_000);
    expect(claim?.signal.aborted).toBe(true);
    expect(listeners()).toBe(before);
  });

  test('a result that cannot be encoded is dropped, and its job is done once', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    const { id } = await queue.push(1);
    const { events, happened, count } = workerOf(actor, name, () => 10n, { keepResults: '1m' });
    await happened('done');
    expect(events.find(({ type }) => type === 'error')).toMatchObject({ error: { code: 'CODEC' } });
    expect(count('claimed')).toBe(1);
    expect(await queue.result(id)).toBeUndefined();
    expect(await queue.stats()).toMatchObject({ ready: 0, delayed: 0, active: 0, dead: 0 });
  });

  test.each(['TOO_LARGE', 'NO_SPACE'] as const)(
    'a result that the store refuses as %s is dropped, and its job is done once',
    async (code) => {
      const actor = await world.actor();
      const name = world.name();
      await queueOf(actor, name).push(1);
      actor.faults.before = (call) => {
        if (puts(call, queueKeys(name).result)) throw new ConclaveError(code, 'no room');
      };
      const { events, happened, count } = workerOf(actor, name, () => 'much', {
        keepResults: '1m',
      });
      await happened('done');
      expect(events.find(({ type }) => type === 'error')).toMatchObject({ error: { code } });
      expect(count('claimed')).toBe(1);
    },
  );

  test('a failed extension is repeated soon: two may fail', async () => {
    const clock = new ManualClock();
    const actor = await world.actor({ clock, ttl: '1h' });
    const name = world.name();
    await queueOf(actor, name).push(1);
    const { worker, happened } = workerOf(actor, name, forever, {
      visibility: '30s',
      sweepEvery: '1h',
    });
    await happened('claimed');
    let extensions = 0;
    actor.faults.before = (call) => {
      if (!puts(call, queueKeys(name).claim)) return;
      extensions += 1;
      if (extensions <= 2) throw new ConclaveError('UNREACHABLE', 'no route');
    };
    clock.advance(11_000);
    await settle();
    expect(extensions).toBe(1);
    for (let turn = 0; turn < 10 && extensions < 3; turn++) {
      clock.advance(100);
      await settle();
    }
    expect(extensions).toBe(3);
    const closed = worker.close({ grace: 0 });
    clock.advance(0);
    await closed;
  });

  test('a push gives up in time although its first read is not answered', async () => {
    const actor = await world.actor();
    const queue = queueOf(actor, world.name());
    actor.faults.before = ({ kind }) => (kind === 'list' ? forever() : undefined);
    const late = within(queue.push(1, { timeout: 50 }), 5_000, 'the push');
    await expect(late).rejects.toMatchObject({ code: 'TIMEOUT', outcome: 'not-applied' });
    const signal = AbortSignal.timeout(50);
    const stopped = within(queue.push(1, { signal }), 5_000, 'the push');
    await expect(stopped).rejects.toMatchObject({ code: 'ABORTED', outcome: 'not-applied' });
  });

  test('of several sweepers each goes on while due jobs are left, whoever moves them', async () => {
    const clock = new ManualClock();
    const [a, b] = [
      await world.actor({ clock, ttl: '1h' }),
      await world.actor({ clock, ttl: '1h' }),
    ];
    const name = world.name();
    const queue = queueOf(a, name);
    const numbers = Array.from({ length: 120 }, (_, index) => index);
    await Promise.all(numbers.map((number) => queue.push(number, { delay: '1s' })));
    clock.freeze(1_000);
    const [slow, fast] = [
      new QueueConsumer<number>(a.context, name),
      new QueueConsumer<number>(b.context, name),
    ];
    let overtaken = false;
    a.faults.after = async ({ kind, write }) => {
      if (kind !== 'txn' || write || overtaken) return;
      overtaken = true;
      await fast.sweep();
    };
    expect(await slow.sweep()).toMatchObject({ due: 0, nextDueInMs: 0 });
    expect(await slow.sweep()).toMatchObject({ due: 20, nextDueInMs: undefined });
  });

  test('compact while a job is searched for: the search starts anew', async () => {
    const actor = await world.actor();
    const queue = queueOf(actor, world.name());
    // With a priority it is not where its id alone would lead to.
    const { id } = await queue.push(1, { priority: 5 });
    let compactions = 0;
    actor.faults.after = async ({ kind, write }) => {
      if (kind !== 'txn' || write || compactions >= 2) return;
      compactions += 1;
      const { kv } = world.operator();
      await kv.put('later', '');
      await compactTo(kv, (await kv.put('later', '')).revision);
    };
    expect(await queue.cancel(id)).toBe('removed');
    expect(compactions).toBe(2);
    expect(await queue.stats()).toMatchObject({ ready: 0 });
  });
});
