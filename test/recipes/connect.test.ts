import { describe, expect, test } from 'vitest';
import * as entry from '../../recipes/index.ts';
import { connect, noMetrics } from '../../recipes/index.ts';
import { storeMissing, useOwnStore } from '../support/store.ts';
import { eventually } from './world.ts';

describe.skipIf(storeMissing)('the way in', () => {
  // What is left behind shows only where nothing was before.
  const { store } = useOwnStore();

  test('a session makes every recipe, and closing the connection ends them all', async () => {
    const conclave = await connect(store().endpoint);
    const session = await conclave.session({ ttl: '30s', meta: { host: 'here' } });
    const lock = await session.mutex('way/in').acquire();
    const leadership = await session.election<string>('way/in').campaign({ value: 'me' });
    const queue = session.queue<number>('way/in');
    const results: number[] = [];
    const worker = session.worker<number, number>('way/in', ({ data }) => data + 1);
    worker.events$.subscribe((event) => {
      if (event.type === 'done') results.push(event.result);
    });
    await queue.push(1);
    await eventually('the job', () => results.length === 1);
    await queue.push(2, { delay: '1h' });
    const service = session.discovery<{ zone: string }>('way/in');
    await service.register({ address: 'x:1', meta: { zone: 'a' } });
    const pool = service.pool();
    await pool.ready();
    expect(pool.snapshot).toMatchObject([{ address: 'x:1', meta: { zone: 'a' } }]);
    const consumer = session.consumer<number>('way/out');
    expect(await consumer.claim()).toBeNull();
    await conclave.close();
    expect(lock.isHeld).toBe(false);
    expect(leadership.isLeader).toBe(false);
    await using other = await connect(store().endpoint);
    const { kvs } = await other.kv.list({ prefix: 'conclave/' });
    // The delayed job is what there is left: it belongs to nobody's session.
    expect(kvs.map(({ key }) => key.split('/').slice(0, 4).join('/'))).toEqual([
      'conclave/queue/way%2Fin/at',
      'conclave/queue/way%2Fin/job',
    ]);
  });

  test('namespaces keep their locks apart; closing one closes nothing', async () => {
    await using conclave = await connect({ endpoints: store().endpoint });
    const [a, b] = [conclave.namespace('a/'), conclave.namespace('b/')];
    const [first, second] = [await a.session(), await b.session()];
    const lock = await first.mutex('same').tryAcquire();
    expect(await second.mutex('same').tryAcquire()).not.toBeNull();
    await a.close();
    expect(lock?.isHeld).toBe(true);
    expect(await conclave.kv.count({ prefix: 'a/conclave/lock/same/' })).toBe(1n);
  });

  test('a session shows what it stands on', async () => {
    await using conclave = await connect(store().endpoint);
    await using session = await conclave.session({ ttl: '20s', onSuspend: 'stop' });
    expect(session).toMatchObject({ ttlMs: 20_000, onSuspend: 'stop', state: 'live', meta: {} });
    expect(BigInt(`0x${session.id}`)).toBe(session.lease);
    expect(session.validUntilMs).toBeGreaterThan(session.client.clock.monotonicMs());
    session.assertLive();
    await session.close();
    await session.close();
    expect(() => session.assertLive()).toThrow(expect.objectContaining({ code: 'CLOSED' }));
  });

  test('unknown options are refused, with the options of the recipes in mind', async () => {
    await expect(connect({ metric: {} } as never)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining("did you mean 'metrics'"),
    });
  });

  test.each<[string, unknown, string]>([
    ['none', null, "'metrics.waited'"],
    ['a meter', { createCounter: () => undefined }, "'metrics.waited'"],
    ['one method of four', { waited: () => undefined }, "'metrics.held'"],
    ['a number for a method', { ...noMetrics, counted: 1 }, "1 as 'metrics.counted'"],
  ])('metrics that are no metrics are refused: %s', async (_what, metrics, field) => {
    const opening = connect({ endpoints: store().endpoint, metrics } as never);
    await expect(opening).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(field),
    });
  });

  test('metrics given to connect hear of every recipe', async () => {
    const heard: string[] = [];
    await using conclave = await connect({
      endpoints: store().endpoint,
      metrics: {
        waited: ({ recipe }) => heard.push(`waited ${recipe}`),
        held: ({ recipe }) => heard.push(`held ${recipe}`),
        contended: ({ recipe, kind }) => heard.push(`${kind} ${recipe}`),
        lost: ({ recipe }) => heard.push(`lost ${recipe}`),
      },
    });
    await using session = await conclave.session();
    await session.mutex('measured').using(() => undefined);
    await session.election('measured').lead(() => undefined, { value: null });
    await session.queue('measured').push(1);
    const worker = session.worker('measured', () => undefined);
    await eventually('the job', () => heard.includes('held queue'));
    await worker.close();
    expect(heard).toEqual([
      'waited mutex',
      'held mutex',
      'waited election',
      'held election',
      'waited queue',
      'held queue',
    ]);
  });

  test('metrics that throw break no recipe', async () => {
    const warnings: Error[] = [];
    const warned = (warning: Error) => warnings.push(warning);
    process.on('warning', warned);
    const boom = () => {
      throw new Error('no exporter');
    };
    const metrics = { waited: boom, held: boom, contended: boom, lost: boom };
    await using conclave = await connect({ endpoints: store().endpoint, metrics });
    await using session = await conclave.session();
    const lock = await session.mutex('measured').acquire();
    await session.client.kv.delete(lock.key);
    await eventually('the loss', () => lock.signal.aborted);
    const worker = session.worker<number, number>('measured', ({ data }) => data, {
      concurrency: 1,
    });
    const results: number[] = [];
    worker.events$.subscribe((event) => {
      if (event.type === 'done') results.push(event.result);
    });
    const queue = session.queue<number>('measured');
    await queue.push(1);
    await queue.push(2);
    await eventually('the jobs', () => results.length === 2);
    expect(warnings.filter(({ name }) => name === 'ConclaveWarning')).toHaveLength(1);
    process.off('warning', warned);
  });
});

test('the entry exports what programs need by name', () => {
  expect(Object.keys(entry)).toEqual(
    expect.arrayContaining([
      'Conclave',
      'ConclaveError',
      'RecipeSession',
      'UnrecoverableJobError',
      'compare',
      'connect',
      'exponential',
      'isConclaveError',
      'json',
      'op',
      'verifySequencer',
    ]),
  );
});
