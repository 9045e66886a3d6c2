import { describe, expect, test } from 'vitest';
import { Schedule } from '../../recipes/queue/schedule.ts';

const at = (text: string) => Date.parse(text);
const slots = (pattern: string, zone: string, from: string, count: number) => {
  const schedule = new Schedule(pattern, zone);
  const found: string[] = [];
  for (let ms = at(from); found.length < count; ) {
    const next = schedule.after(ms);
    if (next === undefined) break;
    found.push(new Date(next).toISOString().slice(0, 16));
    ms = next;
  }
  return found;
};

describe('daylight saving', () => {
  test('a time that the clocks skip runs once, when they have jumped', () => {
    // Paris, 29 March 2026: 02:00 CET becomes 03:00 CEST at 01:00 UTC.
    expect(slots('30 2 * * *', 'Europe/Paris', '2026-03-27T12:00:00Z', 3)).toEqual([
      '2026-03-28T01:30',
      '2026-03-29T01:00',
      '2026-03-30T00:30',
    ]);
  });

  test('a time that comes twice runs the first time only', () => {
    // Paris, 25 October 2026: 03:00 CEST becomes 02:00 CET at 01:00 UTC.
    expect(slots('30 2 * * *', 'Europe/Paris', '2026-10-23T12:00:00Z', 4)).toEqual([
      '2026-10-24T00:30',
      '2026-10-25T00:30',
      '2026-10-26T01:30',
      '2026-10-27T01:30',
    ]);
  });

  test('an hourly pattern runs once each hour that passes', () => {
    expect(slots('0 * * * *', 'Europe/Paris', '2026-03-28T23:30:00Z', 4)).toEqual([
      '2026-03-29T00:00',
      '2026-03-29T01:00',
      '2026-03-29T02:00',
      '2026-03-29T03:00',
    ]);
    expect(slots('0 * * * *', 'Europe/Paris', '2026-10-24T23:30:00Z', 4)).toEqual([
      '2026-10-25T00:00',
      '2026-10-25T01:00',
      '2026-10-25T02:00',
      '2026-10-25T03:00',
    ]);
  });

  test('a zone follows its own rules', () => {
    expect(slots('0 6 * * *', 'America/New_York', '2026-03-07T00:00:00Z', 2)).toEqual([
      '2026-03-07T11:00',
      '2026-03-08T10:00',
    ]);
    expect(slots('0 6 * * *', 'UTC', '2026-03-07T00:00:00Z', 2)).toEqual([
      '2026-03-07T06:00',
      '2026-03-08T06:00',
    ]);
  });
});

describe('missed slots', () => {
  const schedule = new Schedule('*/10 * * * *', 'UTC');
  const limits = { lateAfterMs: 60_000, atMost: 3 };
  const plan = (last: string, now: string, policy: 'skip' | 'run-once' | 'run-all') => {
    const planned = schedule.plan(at(last), at(now), policy, limits);
    return (
      planned && {
        runs: planned.runs.map(({ atMs, missed }) => [
          new Date(atMs).toISOString().slice(11, 16),
          missed,
        ]),
        skipped: planned.skipped,
      }
    );
  };

  test('nothing is due before the next slot', () => {
    expect(plan('2026-01-01T00:00:00Z', '2026-01-01T00:09:59Z', 'run-all')).toBeUndefined();
  });

  test('a slot that is run in time is run under every policy, at its very time too', () => {
    for (const policy of ['skip', 'run-once', 'run-all'] as const) {
      for (const now of ['2026-01-01T00:10:00Z', '2026-01-01T00:11:00Z']) {
        const runs = [['00:10', false]];
        expect(plan('2026-01-01T00:00:00Z', now, policy)).toEqual({ runs, skipped: false });
      }
    }
  });

  test('of what was missed each policy runs what it says', () => {
    const [last, now] = ['2026-01-01T00:00:00Z', '2026-01-01T00:55:00Z'] as const;
    expect(plan(last, now, 'skip')).toEqual({ runs: [], skipped: true });
    expect(plan(last, now, 'run-once')).toEqual({ runs: [['00:50', true]], skipped: true });
    expect(plan(last, now, 'run-all')).toEqual({
      runs: [
        ['00:30', true],
        ['00:40', true],
        ['00:50', true],
      ],
      skipped: true,
    });
    expect(plan('2026-01-01T00:30:00Z', '2026-01-01T00:50:30Z', 'run-all')).toEqual({
      runs: [
        ['00:40', true],
        ['00:50', false],
      ],
      skipped: false,
    });
    // The newest is in time: the others are what was missed.
    expect(plan(last, '2026-01-01T00:50:30Z', 'skip')).toEqual({
      runs: [['00:50', false]],
      skipped: true,
    });
  });

  test('bad input is refused by name', () => {
    expect(() => new Schedule('61 * * * *', 'UTC')).toThrow(/'pattern'/);
    expect(() => new Schedule('0 0 31 2 *', 'UTC')).toThrow(/'pattern'/);
    expect(() => new Schedule('* * * * *', 'Mars/Olympus')).toThrow(/'tz'/);
  });
});
