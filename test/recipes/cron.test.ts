/** Schedules over a store, on clocks of their own; and processors that are subscriptions. */
import { NEVER, of, throwError } from 'rxjs';
import { describe, expect, test } from 'vitest';
import { noMetrics, type RecipeMetrics } from '../../recipes/metrics.ts';
import { cronKey } from '../../recipes/names.ts';
import { constant } from '../../recipes/queue/backoff.ts';
import { Cron, type CronEvent, type CronOptions } from '../../recipes/queue/cron.ts';
import type { WorkerEvent } from '../../recipes/queue/job.ts';
import { type ProcessOptions, type Processor, processor } from '../../recipes/queue/process.ts';
import { Queue } from '../../recipes/queue/queue.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { storeMissing } from '../support/store.ts';
import { payloadsOf } from './queue-payloads.ts';
import { type Actor, eventually, settle, useWorld } from './world.ts';

const minuteMs = 60_000;

describe.skipIf(storeMissing)('cron', () => {
  const world = useWorld();
  const start = async (actor: Actor, name: string, options: Partial<CronOptions<string>> = {}) => {
    const cron = await Cron.start<string>(actor.context, name, {
      pattern: '* * * * *',
      queue: name,
      data: ({ at }) => at.toISOString().slice(14, 16),
      ...options,
    });
    const events: CronEvent[] = [];
    cron.events$.subscribe((event) => events.push(event));
    return { cron, events };
  };
  const payloads = (name: string) => payloadsOf(world.operator().kv, name);
  /** Time passes bit by bit, so that whatever waits can go on in between. */
  const pass = async (clock: ManualClock, ms: number) => {
    for (let left = ms; left > 0; left -= 10_000) {
      clock.advance(Math.min(left, 10_000));
      await settle(10);
    }
  };
  const lasts = async (name: string) => {
    const kv = await world.operator().kv.get(cronKey(name));
    return JSON.parse(Buffer.from(kv?.value ?? []).toString()).lastMs as number;
  };
  const untilAt = (clock: ManualClock, name: string) =>
    eventually('the last slot', async () => {
      clock.advance(50);
      await settle(5);
      return clock.wallMs() - (await lasts(name)) < minuteMs;
    });

  test('each slot is run once, however many keep the schedule and whichever answer is lost', async () => {
    const clock = new ManualClock();
    const name = world.name();
    const actors = await Promise.all([1, 2, 3].map(() => world.actor({ clock, ttl: '1h' })));
    const crons = await Promise.all(actors.map((actor) => start(actor, name)));
    let writes = 0;
    for (const { faults } of actors) {
      faults.plan = ({ write }) => {
        writes += write ? 1 : 0;
        return write && writes % 3 === 0 ? 'lose-answer' : 'pass';
      };
    }
    for (let minute = 0; minute < 5; minute++) {
      await pass(clock, minuteMs);
      await untilAt(clock, name);
    }
    const ran = await payloads(name);
    expect(ran).toHaveLength(5);
    expect(new Set(ran).size).toBe(5);
    await Promise.all(crons.map(({ cron }) => cron.close()));
    for (const { events } of crons) {
      expect(events.filter(({ type }) => type === 'skipped')).toEqual([]);
    }
  });

  test.each([
    ['skip', 1, ['skipped']],
    ['run-once', 2, ['pushed', 'skipped']],
    ['run-all', 10, new Array(9).fill('pushed')],
  ] as const)('slots that nobody was there for: %s', async (missed, runs, told) => {
    const clock = new ManualClock();
    const name = world.name();
    const actor = await world.actor({ clock, ttl: '10h' });
    const first = await start(actor, name, { missed, lateAfter: '20s' });
    await first.cron.close();
    // Right between two slots.
    clock.freeze(minuteMs - (clock.wallMs() % minuteMs) + 90_000 + 7 * minuteMs);
    const second = await start(actor, name, { missed, lateAfter: '20s' });
    const isSettled = async () => clock.wallMs() - (await lasts(name)) < minuteMs;
    await eventually('what was missed', isSettled);
    await eventually('the events', () => second.events.length === told.length);
    expect(second.events.map(({ type }) => type)).toEqual(told);
    await settle();
    await pass(clock, minuteMs);
    await eventually('the next one', isSettled);
    await eventually('the runs', async () => (await payloads(name)).length === runs);
    await second.cron.close();
  });

  test('schedules that disagree are refused; the one that replaces ends the other', async () => {
    const clock = new ManualClock();
    const name = world.name();
    const [a, b] = [
      await world.actor({ clock, ttl: '1h' }),
      await world.actor({ clock, ttl: '1h' }),
    ];
    const first = await start(a, name);
    await expect(start(b, name, { tz: 'Europe/Paris' })).rejects.toMatchObject({
      code: 'MISMATCH',
    });
    const second = await start(b, name, { tz: 'Europe/Paris', replace: true });
    expect(second.cron.next?.getTime()).toBeGreaterThan(clock.wallMs());
    await pass(clock, 2 * minuteMs);
    await eventually('the end', async () => {
      clock.advance(1_000);
      await settle(5);
      return first.events.some(
        (event) => event.type === 'error' && JSON.stringify(event.error).includes('MISMATCH'),
      );
    });
    await first.cron.close();
    await second.cron.close();
    await expect(start(a, name, { missed: 'no' as 'skip' })).rejects.toThrow(/'missed'/);
    await expect(start(a, name, { lateAfter: 0 })).rejects.toThrow(/'lateAfter'/);
  });

  test('the schedule can be inspected, and says what it waits for and whom it met', async () => {
    const clock = new ManualClock();
    const name = world.name();
    const told: string[] = [];
    const metrics: RecipeMetrics = {
      ...noMetrics,
      waited: ({ recipe, name: of, outcome }) => told.push(`${recipe} ${of} ${outcome}`),
      contended: ({ recipe, name: of, kind }) => told.push(`${recipe} ${of} ${kind}`),
      lost: ({ recipe, name: of, reason }) => told.push(`${recipe} ${of} ${reason}`),
    };
    const actors = [
      await world.actor({ clock, ttl: '1h', metrics }),
      await world.actor({ clock, ttl: '1h', metrics }),
    ] as const;
    const [one, two] = [await start(actors[0], name), await start(actors[1], name)];
    const began = clock.wallMs();
    expect(await one.cron.inspect()).toEqual({
      pattern: '* * * * *',
      tz: 'UTC',
      missed: 'run-once',
      queue: name,
      last: new Date(began),
      next: new Date(Math.floor(began / minuteMs) * minuteMs + minuteMs),
    });
    await pass(clock, minuteMs);
    await eventually('both to have looked', async () => {
      clock.advance(50);
      await settle(5);
      return told.length >= 2;
    });
    expect(told.sort()).toEqual([`cron ${name} acquired`, `cron ${name} conflict`]);
    expect((await two.cron.inspect())?.last.getTime()).toBe(await lasts(name));
    const third = await start(actors[0], name, { pattern: '0 * * * *', replace: true });
    await eventually('the others to be told', async () => {
      clock.advance(10_000);
      await settle(5);
      return told.filter((line) => line.endsWith('MISMATCH')).length === 2;
    });
    // As it is stored now, whoever looks.
    expect(await one.cron.inspect()).toMatchObject({ pattern: '0 * * * *' });
    await Promise.all([one, two, third].map(({ cron }) => cron.close()));
    await world.operator().kv.delete(cronKey(name));
    expect(await one.cron.inspect()).toBeNull();
  });
});

describe.skipIf(storeMissing)('process$', () => {
  const world = useWorld();
  const run = (
    actor: Actor,
    name: string,
    project: Processor<string, string>,
    options: ProcessOptions<string> = {},
  ) => {
    const events: WorkerEvent<string, string | undefined>[] = [];
    let completed = false;
    const subscription = processor(actor.context, name, project, options).subscribe({
      next: (event) => events.push(event),
      complete: () => {
        completed = true;
      },
    });
    const happened = (type: WorkerEvent['type']) =>
      eventually(type, () => events.some((event) => event.type === type));
    return { events, subscription, happened, isComplete: () => completed };
  };

  test('the last value is the result, an error is a failure', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = new Queue<string>(actor.context, name);
    const { id } = await queue.push('good');
    const { happened, subscription } = run(
      actor,
      name,
      ({ data }) => (data === 'bad' ? throwError(() => new Error('bad')) : of('1', '2')),
      { keepResults: '1m', maxAttempts: 2, backoff: constant(1) },
    );
    expect(await queue.finished(id)).toBe('2');
    await queue.push('bad');
    await happened('retry');
    await happened('dead');
    subscription.unsubscribe();
    await eventually('the end', async () => (await queue.stats()).workers === 0);
  });

  test('unsubscribing lets go of what runs, uncounted; closing the session completes', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = new Queue<string>(actor.context, name);
    await queue.push('x');
    let released = false;
    const first = run(actor, name, (_job, { signal }) => {
      signal.addEventListener('abort', () => {
        released = true;
      });
      return NEVER;
    });
    await first.happened('claimed');
    first.subscription.unsubscribe();
    await eventually('the job back', async () => (await queue.stats()).ready === 1);
    expect(released).toBe(true);
    const attempts: number[] = [];
    const second = run(actor, name, ({ attempt }) => {
      attempts.push(attempt);
      return of('done');
    });
    await second.happened('done');
    expect(attempts).toEqual([1]);
    await actor.close();
    expect(second.isComplete()).toBe(true);
  });
});
