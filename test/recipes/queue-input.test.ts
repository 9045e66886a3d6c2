/** What queues, workers and schedules refuse, and how: by name, at once, as INVALID_ARGUMENT. */
import { describe, expect, test } from 'vitest';
import type { RecipeContext } from '../../recipes/common/context.ts';
import { exponential } from '../../recipes/queue/backoff.ts';
import { Cron } from '../../recipes/queue/cron.ts';
import { processor } from '../../recipes/queue/process.ts';
import { Queue } from '../../recipes/queue/queue.ts';
import { QueueConsumer } from '../../recipes/queue/queue-consumer.ts';
import { batchWorker, Worker } from '../../recipes/queue/worker.ts';
import { storeMissing } from '../support/store.ts';
import { eventually, useWorld } from './world.ts';

// As a program without types would call.
type Untyped = (...given: readonly unknown[]) => unknown;
const untyped = (call: unknown): Untyped => call as Untyped;
type UntypedQueue = Record<string, Untyped> & { readonly dead: Record<string, Untyped> };

describe.skipIf(storeMissing)('bad input', () => {
  const world = useWorld();
  const noop = () => undefined;
  const make = (Type: unknown, ...given: readonly unknown[]) =>
    new (Type as new (...given: readonly unknown[]) => unknown)(...given);

  test.each<[string, (context: RecipeContext) => unknown, string]>([
    ['no handler', (c) => make(Worker, c, 'q', undefined), "undefined as 'handler'"],
    ['null for a handler', (c) => make(Worker, c, 'q', null), "null as 'handler'"],
    ['no batch handler', (c) => make(Worker, c, 'q', { size: 2 }), "undefined as 'handler'"],
    ['no size', (c) => make(Worker, c, 'q', { handleBatch: noop }), "undefined as 'size'"],
    ['batch, no options', (c) => untyped(batchWorker)(c, 'q', noop), "undefined as 'options'"],
    ['batch', (c) => untyped(batchWorker)(c, 'q', noop, { siz: 2 }), "mean 'size'"],
    ['batch, handler', (c) => untyped(batchWorker)(c, 'q', 1, { size: 2 }), "1 as 'handler'"],
    ['back-off', (c) => make(Worker, c, 'q', noop, { backoff: 5 }), "5 as 'backoff'"],
    ['worker', (c) => make(Worker, c, 'q', noop, { concurency: 2 }), "'concurrency'"],
    ['worker, no options', (c) => make(Worker, c, 'q', noop, null), "null as 'options'"],
    ['worker, limits', (c) => make(Worker, c, 'q', noop, { limits: { rat: 1 } }), "'limits.rate'"],
    ['consumer', (c) => make(QueueConsumer, c, 'q', { visibilty: '1s' }), "'visibility'"],
    ['codec', (c) => make(QueueConsumer, c, 'q', { codec: 'json' }), '"json" as \'codec\''],
    ['queue', (c) => make(Queue, c, 'q', { limit: {} }), "'limits'"],
    ['limits', (c) => make(Queue, c, 'q', { limits: { concurency: 1 } }), "'limits.concurrency'"],
    ['limits, null', (c) => make(Queue, c, 'q', { limits: null }), "null as 'limits'"],
    ['rate', (c) => make(Queue, c, 'q', { limits: { rate: { limt: 1 } } }), "'limits.rate.limit'"],
    ['exponential', () => untyped(exponential)({ bas: 1 }), "'base'"],
  ])('%s', async (_what, call, message) => {
    const { context } = await world.actor();
    expect(() => call(context)).toThrow(
      expect.objectContaining({
        code: 'INVALID_ARGUMENT',
        message: expect.stringContaining(message),
      }),
    );
  });

  test.each<[string, (queue: UntypedQueue) => unknown, string]>([
    ['push', (q) => q['push']?.(1, { dealy: 5 }), "'delay'"],
    ['push, null', (q) => q['push']?.(1, null), "null as 'options'"],
    ['pushMany', (q) => q['pushMany']?.({}), "'jobs': it must be an array"],
    [
      'pushMany, a job',
      (q) => q['pushMany']?.([{ data: 1, proirity: 1 }]),
      "'jobs.proirity': did you mean 'jobs.priority'",
    ],
    ['pushMany, no job', (q) => q['pushMany']?.([undefined]), "undefined as 'jobs'"],
    ['pushMany, options', (q) => q['pushMany']?.([], { whenful: 'fail' }), "'whenFull'"],
    ['pushFlow', (q) => q['pushFlow']?.(), "undefined as 'flow'"],
    ['pushFlow, children', (q) => q['pushFlow']?.({ data: 1, children: {} }), "'children'"],
    [
      'pushFlow, node',
      (q) => q['pushFlow']?.({ data: 1, onChildFailur: 'wait' }),
      'onChildFailure',
    ],
    ['pushFlow, child', (q) => q['pushFlow']?.({ data: 1, children: [null] }), "'children'"],
    [
      'pushFlow, queue',
      (q) => q['pushFlow']?.({ data: 1, children: [{ queu: 'x' }] }),
      "'children.queue'",
    ],
    ['cancel', (q) => q['cancel']?.(undefined), "undefined as 'id'"],
    ['cancel, options', (q) => q['cancel']?.('x', { reasn: '' }), "'reason'"],
    ['finished', (q) => q['finished']?.(undefined), "undefined as 'id'"],
    ['finished, options', (q) => q['finished']?.('x', { timeout: 1 }), "'timeout'"],
    ['result', (q) => q['result']?.(''), "as 'id'"],
    ['stats', (q) => q['stats']?.({ timeot: 1 }), "'timeout'"],
    ['setLimits', (q) => q['setLimits']?.({ capcity: 1 }), "did you mean 'limits.capacity'"],
    ['dead.list', (q) => q.dead['list']?.({ limt: 1 }), "'limit'"],
    ['dead.replay', (q) => q.dead['replay']?.(undefined), "undefined as 'which'"],
  ])('queue.%s', async (_what, call, message) => {
    const actor = await world.actor();
    const queue = new Queue(actor.context, world.name()) as unknown as UntypedQueue;
    await expect(call(queue)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(message),
    });
    expect(await (queue as unknown as Queue<unknown>).stats()).toMatchObject({ ready: 0 });
  });

  test.each<[string, (consumer: Record<string, Untyped>) => unknown]>([
    ['claim', (consumer) => consumer['claim']?.({ timeout: '1s' })],
    ['claimMany', (consumer) => consumer['claimMany']?.(2, { timeout: '1s' })],
    ['sweep', (consumer) => consumer['sweep']?.({ timeout: '1s' })],
  ])('consumer.%s with something else for a signal', async (_what, call) => {
    const { context } = await world.actor();
    const consumer: unknown = new QueueConsumer(context, world.name());
    await expect(call(consumer as Record<string, Untyped>)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining("as 'signal'"),
    });
  });

  test('a claim', async () => {
    const actor = await world.actor();
    const name = world.name();
    await new Queue<number>(actor.context, name).push(1);
    const claim = await new QueueConsumer<number>(actor.context, name).claim();
    if (claim === null) throw new Error('there should be a job');
    const methods = claim as unknown as Record<string, Untyped>;
    for (const [method, given, field] of [
      ['nack', [{ dealy: '1h' }], "'dealy'"],
      ['nack', [{ error: 5 }], "5 as 'error'"],
      ['nack', [null], "null as 'options'"],
      ['ack', [{ timeout: '1s' }], "'kept.timeout'"],
      ['ack', [undefined, { tiemout: '1s' }], "'tiemout'"],
      ['ack', [undefined, { signal: 5 }], "5 as 'signal'"],
      ['dead', ['why', { eror: 'x' }], "'eror'"],
      ['dead', [undefined], "undefined as 'reason'"],
      ['discard', [{ raeson: 'x' }], "'raeson'"],
      ['giveBack', [{ timeuot: 1 }], "'timeuot'"],
      ['extend', [undefined, { singal: undefined }], "'singal'"],
    ] as const) {
      await expect(methods[method]?.(...given), method).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringContaining(field),
      });
    }
    // None of these has settled it.
    claim.assertHeld();
    await claim.ack();
  });

  test.each<[string, readonly unknown[], string]>([
    ['without options', [], "undefined as 'options'"],
    ['a misspelt policy', [{ pattern: '@daily', queue: 'q', mised: 'skip' }], "'missed'"],
    ['a priority', [{ pattern: '@daily', queue: 'q', data: 1, priority: 1_000 }], "'priority'"],
    ['no queue', [{ pattern: '@daily', data: 1 }], "undefined as 'queue'"],
    ['a codec', [{ pattern: '@daily', queue: 'q', data: 1, codec: {} }], "'codec'"],
  ])('cron: %s', async (_what, given, message) => {
    const { context } = await world.actor();
    await expect(untyped(Cron.start)(context, world.name(), ...given)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(message),
    });
  });

  test.each<[string, readonly unknown[], RegExp]>([
    ['no function', [1], /1 as 'project'/],
    ['a misspelt option', [noop, { concurency: 1 }], /'concurrency'/],
    ['a bad grace', [noop, { grace: 'long' }], /'grace'/],
  ])('process$: %s reaches the subscriber', async (_what, given, message) => {
    const { context } = await world.actor();
    let error: unknown;
    const processing = untyped(processor)(context, 'q', ...given) as ReturnType<typeof processor>;
    processing.subscribe({ error: (thrown) => (error = thrown) });
    await eventually('the error', () => error !== undefined);
    expect(error).toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    });
  });

  test('job$ without an id reaches the subscriber', async () => {
    const { context } = await world.actor();
    const queue = new Queue(context, world.name());
    let error: unknown;
    (untyped(queue.job$.bind(queue))(undefined) as ReturnType<typeof queue.job$>).subscribe({
      error: (thrown) => (error = thrown),
    });
    await eventually('the error', () => error !== undefined);
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT' });
  });
});
