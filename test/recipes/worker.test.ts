import { describe, expect, test } from 'vitest';
import { queueKeys } from '../../recipes/names.ts';
import { constant, exponential } from '../../recipes/queue/backoff.ts';
import { type Handler, UnrecoverableJobError, type WorkerEvent } from '../../recipes/queue/job.ts';
import { Queue } from '../../recipes/queue/queue.ts';
import { Worker, type WorkerOptions } from '../../recipes/queue/worker.ts';
import { storeMissing } from '../support/store.ts';
import { spoilPayload } from './queue-payloads.ts';
import { type Actor, eventually, settle, useWorld } from './world.ts';

describe.skipIf(storeMissing)('worker', () => {
  const world = useWorld();
  const queueOf = (actor: Actor, name: string) => new Queue<number>(actor.context, name);
  const workerOf = <R>(
    actor: Actor,
    name: string,
    handler: Handler<number, R>,
    options: WorkerOptions<number> = {},
  ) => {
    const worker = new Worker<number, R>(actor.context, name, handler, options);
    const events: WorkerEvent<number, R>[] = [];
    worker.events$.subscribe((event) => events.push(event));
    const happened = (type: WorkerEvent['type'], times = 1) =>
      eventually(`${times} of ${type}`, () => count(type) >= times);
    const count = (type: WorkerEvent['type']) =>
      events.filter((event) => event.type === type).length;
    return { worker, events, happened, count };
  };
  /** Everything of the queue but the lanes of producers. */
  const leftovers = async (name: string) => {
    const { root, push } = queueKeys(name);
    const { kvs } = await world.operator().kv.list({ prefix: root });
    return kvs.map(({ key }) => key).filter((key) => !key.startsWith(push));
  };
  const forever = (signal: AbortSignal) =>
    new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });

  test('handles jobs that are there and jobs that come, and reports each step', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    const { id } = await queue.push(1);
    const { worker, events, happened } = workerOf(actor, name, ({ data }) => data * 2);
    await happened('done');
    await queue.push(2);
    await happened('done', 2);
    expect(events.slice(0, 2)).toMatchObject([
      { type: 'claimed', id, job: { data: 1, attempt: 1 } },
      { type: 'done', id, job: { data: 1 }, result: 2 },
    ]);
    await worker.close();
    expect(await leftovers(name)).toEqual([]);
  });

  test('a job that comes between the listing and the watch is not missed', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const queue = queueOf(b, name);
    let pushed = false;
    a.faults.after = async ({ kind }) => {
      if (kind !== 'list' || pushed) return;
      pushed = true;
      await queue.push(1);
    };
    const { happened } = workerOf(a, name, ({ data }) => data);
    await happened('done');
  });

  test('handles no more than its concurrency at a time', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    let inside = 0;
    let most = 0;
    const { happened } = workerOf(
      actor,
      name,
      async () => {
        inside += 1;
        most = Math.max(most, inside);
        // The first ones stay until as many as may are in.
        await eventually('the others', () => most >= 3);
        await settle(5);
        inside -= 1;
      },
      { concurrency: 3 },
    );
    await Promise.all(Array.from({ length: 12 }, (_, index) => queue.push(index)));
    await happened('done', 12);
    expect(most).toBe(3);
  });

  test('several workers share the jobs; each is done once', async () => {
    const actors = await Promise.all([world.actor(), world.actor(), world.actor()]);
    const name = world.name();
    const done: number[] = [];
    for (const actor of actors) {
      const { worker } = workerOf(actor, name, ({ data }) => data, { concurrency: 4 });
      worker.events$.subscribe((event) => {
        if (event.type === 'done') done.push(event.result);
      });
    }
    const queue = queueOf(actors[0], name);
    const numbers = Array.from({ length: 60 }, (_, index) => index);
    await Promise.all(numbers.map((number) => queue.push(number)));
    await eventually('all done', () => done.length >= numbers.length);
    expect([...done].sort((a, b) => a - b)).toEqual(numbers);
  });

  test('a worker killed in the middle of a job passes it on; the job’s signal aborts', async () => {
    const [a, b] = [await world.actor({ ttl: '2s' }), await world.actor()];
    const name = world.name();
    await queueOf(b, name).push(1);
    const signals: AbortSignal[] = [];
    const first = workerOf(a, name, (_job, { signal }) => {
      signals.push(signal);
      return forever(signal);
    });
    await first.happened('claimed');
    const attempts: number[] = [];
    const second = workerOf(b, name, ({ attempt }) => attempts.push(attempt), {
      sweepEvery: '1h',
    });
    // Its first sweep is over: from here on it depends on what it hears.
    await eventually('a sweep', () =>
      b.faults.calls.some(({ kind, write }) => kind === 'txn' && !write),
    );
    await settle();
    await a.killLease();
    await second.happened('done');
    expect(attempts).toEqual([2]);
    // The first one may have swept as well: its process lives.
    await eventually(
      'the report',
      () => first.count('recovered') + second.count('recovered') === 1,
    );
    await first.happened('claim-lost');
    expect(signals[0]?.reason).toMatchObject({ code: 'SESSION_LOST' });
  });

  test('a worker whose session is lost goes on in a new one', async () => {
    const actor = await world.actor({ ttl: '2s' });
    const name = world.name();
    const { happened, events } = workerOf(actor, name, ({ data }) => data);
    const queue = queueOf(await world.actor(), name);
    await queue.push(1);
    await happened('done');
    await actor.killLease();
    await eventually('the loss', () => actor.session.state === 'lost');
    await queue.push(2);
    await happened('done', 2);
    expect(events.filter(({ type }) => type === 'done')).toMatchObject([
      { result: 1 },
      { result: 2 },
    ]);
  });

  test('a handler’s claim is extended for as long as it runs', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await queueOf(a, name).push(1);
    let finish: () => void = () => undefined;
    const finished = new Promise<void>((resolve) => {
      finish = resolve;
    });
    // An extension has a sixth of it to be answered: time enough for a store of several members.
    const visibility = 1_200;
    const first = workerOf(a, name, () => finished, { visibility });
    await first.happened('claimed');
    const second = workerOf(b, name, () => undefined, { visibility, sweepEvery: 50 });
    const extended = async () => {
      const { kvs } = await world.operator().kv.list({ prefix: queueKeys(name).claim });
      return (kvs[0]?.version ?? 0n) >= 6n;
    };
    // Five extensions take longer than the visibility period.
    await eventually('five extensions', extended);
    finish();
    await first.happened('done');
    expect(second.count('recovered')).toBe(0);
    expect(second.count('claimed')).toBe(0);
  });

  test('a worker that cannot extend loses its claim, and its acknowledgement is refused', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await queueOf(b, name).push(1);
    const signals: AbortSignal[] = [];
    const first = workerOf(
      a,
      name,
      async (_job, { signal }) => {
        signals.push(signal);
        await eventually('the loss', () => signal.aborted);
        await eventually('the other worker', () => second.count('claimed') === 1);
        // Whatever stood in the way is gone; it is too late.
        a.faults.heal();
        return 'late';
      },
      { visibility: 300 },
    );
    await first.happened('claimed');
    a.faults.plan = ({ kind }) => (kind === 'txn' ? 'refuse' : 'pass');
    let finish: () => void = () => undefined;
    const finished = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const second = workerOf(b, name, () => finished, { visibility: 300, sweepEvery: 50 });
    await first.happened('claim-lost');
    expect(first.count('done')).toBe(0);
    expect(signals[0]?.reason).toMatchObject({ code: 'CLAIM_LOST' });
    finish();
    await second.happened('done');
  });

  test('a handler that throws is tried again with back-off, then becomes a dead letter', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    await queue.push(1);
    const attempts: number[] = [];
    const { events, happened } = workerOf(
      actor,
      name,
      ({ attempt }) => {
        attempts.push(attempt);
        throw new Error(`failure ${attempt}`);
      },
      { maxAttempts: 3, backoff: constant(5) },
    );
    await happened('dead');
    expect(attempts).toEqual([1, 2, 3]);
    expect(events.filter(({ type }) => type === 'retry')).toMatchObject([
      { delayMs: 5, error: { message: 'failure 1' } },
      { delayMs: 5, error: { message: 'failure 2' } },
    ]);
    expect(await queue.dead.list()).toMatchObject([
      { data: 1, attempts: 3, reason: 'attempt 3 of 3 failed: failure 3', lastError: 'failure 3' },
    ]);
  });

  test('an unrecoverable error and an unreadable payload cost one attempt only', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    await queue.push(1);
    const { id } = await queue.push(2);
    await spoilPayload(world.operator().kv, name, id);
    const { happened } = workerOf(actor, name, () => {
      throw new UnrecoverableJobError('no such customer');
    });
    await happened('dead', 2);
    const { kvs } = await world.operator().kv.list({ prefix: queueKeys(name).dead });
    const reasons = kvs.map(({ value }) => JSON.parse(Buffer.from(value).toString()).reason);
    expect(reasons).toEqual([
      'unrecoverable: no such customer',
      expect.stringContaining('unreadable'),
    ]);
  });

  test('jobs out of attempts can be dropped instead of kept', async () => {
    const actor = await world.actor();
    const name = world.name();
    await queueOf(actor, name).push(1);
    const { worker, happened } = workerOf(
      actor,
      name,
      () => {
        throw new Error('never works');
      },
      { maxAttempts: 1, deadLetter: 'discard' },
    );
    await happened('dead');
    await worker.close();
    expect(await leftovers(name)).toEqual([]);
  });

  test('a delayed job runs when it is due, not before', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    const ran: number[] = [];
    const { happened } = workerOf(actor, name, () => ran.push(Date.now()));
    await settle();
    const pushedMs = Date.now();
    await queue.push(1, { delay: 200 });
    await happened('done');
    expect((ran[0] ?? 0) - pushedMs).toBeGreaterThanOrEqual(200);
  });

  test('progress is stored with the claim and reported', async () => {
    const actor = await world.actor();
    const name = world.name();
    await queueOf(actor, name).push(1);
    let stored: unknown;
    const { events, happened } = workerOf(actor, name, async (_job, { progress }) => {
      await progress({ percent: 50 });
      const { kvs } = await world.operator().kv.list({ prefix: queueKeys(name).claim });
      stored = JSON.parse(Buffer.from(kvs[0]?.value ?? []).toString()).progress;
    });
    await happened('done');
    expect(stored).toEqual({ percent: 50 });
    expect(events).toContainEqual(
      expect.objectContaining({ type: 'progress', note: { percent: 50 } }),
    );
  });

  test('results are kept under a lease when asked for', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    const { id } = await queue.push(21);
    expect(await queue.result(id)).toBeUndefined();
    const { happened } = workerOf(actor, name, ({ data }) => ({ answer: data * 2 }), {
      keepResults: '1m',
    });
    await happened('done');
    expect(await queue.result(id)).toEqual({ answer: 42 });
    const kv = await world.operator().kv.get(queueKeys(name).result + id);
    const lease = await world.operator().leases.timeToLive(kv?.lease ?? 0n);
    expect(lease?.grantedTtlMs).toBe(120_000);
    await world.operator().leases.revoke(kv?.lease ?? 0n);
    // The next result needs a new lease: the worker finds out by itself.
    const next = await queue.push(1);
    await happened('done', 2);
    expect(await queue.result(next.id)).toEqual({ answer: 2 });
  });

  test('closing waits for the running handler and claims nothing more', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    await queue.push(1);
    await queue.push(2);
    let finish: () => void = () => undefined;
    const finished = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const { worker, happened, count } = workerOf(actor, name, () => finished);
    await happened('claimed');
    const closed = worker.close();
    await settle();
    finish();
    await closed;
    expect(count('done')).toBe(1);
    expect(await queue.stats()).toMatchObject({
      ready: 1,
      delayed: 0,
      active: 0,
      dead: 0,
      workers: 0,
    });
  });

  test('a job that does not finish in the grace period is given back uncounted', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await queueOf(a, name).push(1);
    const signals: AbortSignal[] = [];
    const first = workerOf(a, name, (_job, { signal }) => {
      signals.push(signal);
      // Deaf to its signal.
      return new Promise<never>(() => undefined);
    });
    await first.happened('claimed');
    await first.worker.close({ grace: 20 });
    expect(first.count('returned')).toBe(1);
    expect(signals[0]?.reason).toMatchObject({ code: 'CLOSED' });
    const attempts: number[] = [];
    const second = workerOf(b, name, ({ attempt }) => attempts.push(attempt));
    await second.happened('done');
    expect(attempts).toEqual([1]);
  });

  test('lost answers at every write of a worker lose no job and do none twice', async () => {
    const actor = await world.actor();
    const name = world.name();
    let writes = 0;
    actor.faults.plan = ({ write }) => {
      writes += write ? 1 : 0;
      return write && writes % 3 === 0 ? 'lose-answer' : 'pass';
    };
    const handled: number[] = [];
    const { happened } = workerOf(actor, name, ({ data }) => handled.push(data), {
      concurrency: 2,
      backoff: constant(1),
    });
    const queue = queueOf(actor, name);
    for (let number = 0; number < 15; number++) await queue.push(number);
    await happened('done', 15);
    await settle();
    expect([...handled].sort((x, y) => x - y)).toEqual(
      Array.from({ length: 15 }, (_, index) => index),
    );
    expect(actor.faults.calls.length).toBeGreaterThan(0);
  });

  test('the past being compacted under its watches does not stop a worker', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    const { happened } = workerOf(actor, name, () => undefined);
    for (let round = 1; round <= 3; round++) {
      const { revision } = await world.operator().kv.put('filler', String(round));
      await world.operator().kv.compact(revision);
      await queue.push(round);
      await happened('done', round);
    }
  });

  test('a batch is handled by one call; each of its jobs has its own outcome', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    const pushed = await queue.pushMany([1, 2, 3, 4, 5, 6, 7].map((data) => ({ data })));
    await spoilPayload(world.operator().kv, name, pushed[1]?.id ?? '');
    const sizes: number[] = [];
    const worker = new Worker<number, number>(
      actor.context,
      name,
      {
        size: 5,
        handleBatch: (jobs) => {
          sizes.push(jobs.length);
          if (jobs.every(({ attempt }) => attempt > 1)) throw new Error('all of it');
          return jobs.map(({ data }) => (data % 2 === 0 ? new Error(`even ${data}`) : data * 10));
        },
      },
      { maxAttempts: 2, backoff: constant(0), keepResults: '1m' },
    );
    const events: WorkerEvent<number, number>[] = [];
    worker.events$.subscribe((event) => events.push(event));
    const ids = (type: WorkerEvent['type']) =>
      events.flatMap((event) => (event.type === type && 'id' in event ? [event.id] : [])).sort();
    const idsOf = (...indexes: number[]) => indexes.map((index) => pushed[index]?.id);
    await eventually('the end', () => ids('dead').length === 3);
    expect(ids('done')).toEqual(idsOf(0, 2, 4, 6));
    expect(ids('retry')).toEqual(idsOf(3, 5));
    expect(ids('dead')).toEqual(idsOf(1, 3, 5));
    // The unreadable one is not handed over.
    expect(sizes[0]).toBe(4);
    expect(await queue.result(pushed[2]?.id ?? '')).toBe(30);
    const bad = { size: 33, handleBatch: () => undefined };
    expect(() => new Worker(actor.context, name, bad)).toThrow(/'size'/);
  });

  test('closing the session closes its workers', async () => {
    const actor = await world.actor();
    const name = world.name();
    const { worker, happened } = workerOf(actor, name, () => undefined);
    await queueOf(actor, name).push(1);
    await happened('done');
    await actor.close();
    await worker.close();
    expect(await leftovers(name)).toEqual([]);
  });

  test('a session that is closed waits for its workers, and their jobs are not passed on', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const queue = queueOf(b, name);
    await queue.push(1);
    let finish: () => void = () => undefined;
    const finished = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const first = workerOf(a, name, () => finished);
    await first.happened('claimed');
    const second = workerOf(b, name, () => undefined, { sweepEvery: 20 });
    // Closing the worker first makes no difference: the session still waits for it.
    void first.worker.close();
    const closed = a.close();
    const sweeps = () =>
      b.faults.calls.filter(({ kind, write }) => kind === 'txn' && !write).length;
    const before = sweeps();
    await eventually('some sweeps', () => sweeps() > before + 3);
    expect((await queue.stats()).active).toBe(1);
    finish();
    await closed;
    expect([first.count('done'), second.count('claimed')]).toEqual([1, 0]);
  });

  test('exponential back-off has full jitter and a limit', () => {
    const backoff = exponential({ base: 100, longest: 1_000 });
    const longest = (attempt: number) => backoff(attempt, () => 1);
    expect([1, 2, 3, 4, 5, 60].map(longest)).toEqual([100, 200, 400, 800, 1_000, 1_000]);
    expect(backoff(3, () => 0)).toBe(0);
    expect(backoff(3, () => 0.5)).toBe(200);
  });

  test('bad input is refused by name', async () => {
    const actor = await world.actor();
    const bad = (options: WorkerOptions<number>) => () =>
      new Worker(actor.context, 'x', () => undefined, options);
    expect(bad({ concurrency: 0 })).toThrow(/'concurrency'/);
    expect(bad({ maxAttempts: 1.5 })).toThrow(/'maxAttempts'/);
    expect(bad({ keepResults: 'long' })).toThrow(/'keepResults'/);
    expect(bad({ keepResults: 0 })).toThrow(/'keepResults': it must be at least '1s'/);
    expect(bad({ sweepEvery: 0 })).toThrow(/'sweepEvery': it must be at least '10ms'/);
    expect(() => exponential({ base: '1h', longest: '1s' })).toThrow(/'longest'/);
  });
});
