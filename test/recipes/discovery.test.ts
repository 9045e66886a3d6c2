/** The rules of discovery by themselves: who is ejected, held back, near, healthy, selected. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { httpCheck } from '../../recipes/discovery/checks.ts';
import {
  afterFlap,
  type DampingRules,
  type Flaps,
  flapDamping,
  isForgotten,
  isSuppressed,
  penaltyAt,
  reusableAtMs,
} from '../../recipes/discovery/damping.ts';
import { afterCheck, checkRules, type Health } from '../../recipes/discovery/health.ts';
import type { Instance, InstanceStatus } from '../../recipes/discovery/instance.ts';
import {
  closeness,
  drawTier,
  localityRules,
  tierShares,
  tiersOf,
} from '../../recipes/discovery/locality.ts';
import {
  ejectionMs,
  mayBeEjected,
  OutlierDetector,
  type OutlierOptions,
  outliers,
} from '../../recipes/discovery/outliers.ts';
import { drawFrom, panicRules, select } from '../../recipes/discovery/selection.ts';
import { Standing } from '../../recipes/discovery/standing.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { settle } from './world.ts';

const instance = (
  id: string,
  zone?: string,
  status: InstanceStatus = 'up',
  weight = 1,
): Instance<null> => ({
  id,
  address: `${id}:1`,
  meta: null,
  weight,
  zone,
  status,
  reason: undefined,
  registeredAt: new Date(0),
  statusSince: new Date(0),
  createRevision: 1n,
  modRevision: 1n,
});

test('rules name options that do not exist', () => {
  expect(() => outliers({ minCall: 1 } as object)).toThrow(/did you mean 'eject.minCalls'/);
  expect(() => flapDamping({ halfLive: 1 } as object)).toThrow(/did you mean 'damping.halfLife'/);
  expect(() => outliers(null as never)).toThrow(/'eject'/);
  expect(() => httpCheck('http://host', { acept: 1 } as object)).toThrow(/did you mean 'accept'/);
});

describe('outliers', () => {
  const ids = Array.from({ length: 10 }, (_, index) => `i${index}`);
  const detector = (options: OutlierOptions = {}, dice: () => number = () => 0) =>
    new OutlierDetector(outliers(options), dice, 0);
  const fail = (of: OutlierDetector, id: string, times: number, nowMs: number, among = ids) =>
    Array.from({ length: times }, () => of.called(id, false, nowMs, among));

  test('so many failures in a row eject, and one success in between does not', () => {
    const calls = detector();
    expect(fail(calls, 'i0', 4, 0)).toEqual([false, false, false, false]);
    calls.called('i0', true, 0, ids);
    expect(fail(calls, 'i0', 5, 0)).toEqual([false, false, false, false, true]);
    expect(calls.ejection('i0', 29_999)).toMatchObject({ reason: 'consecutive-failures' });
    expect(calls.ejection('i0', 30_000)).toBeUndefined();
    expect(calls.ejection('i1', 0)).toBeUndefined();
  });

  test('too many failures of an interval eject at its end, if there were enough calls', () => {
    const options = { consecutiveFailures: 0, failureRate: 0.5, minCalls: 10, maxEjected: 1 };
    const calls = detector(options);
    for (let nth = 0; nth < 10; nth++) calls.called('i0', nth % 2 === 0, 0, ids);
    for (let nth = 0; nth < 9; nth++) calls.called('i1', false, 0, ids);
    for (let nth = 0; nth < 10; nth++) calls.called('i2', nth % 2 === 0 || nth > 6, 0, ids);
    expect(calls.ejection('i0', 9_999)).toBeUndefined();
    expect(calls.called('i9', true, 10_000, ids)).toBe(true);
    expect(calls.ejection('i0', 10_000)).toMatchObject({ reason: 'failure-rate', untilMs: 40_000 });
    expect(calls.ejection('i1', 10_000)).toBeUndefined();
    expect(calls.ejection('i2', 10_000)).toBeUndefined();
    // The next interval counts anew.
    for (let nth = 0; nth < 9; nth++) calls.called('i2', false, 10_000, ids);
    expect(calls.called('i9', true, 20_000, ids)).toBe(false);
  });

  test('each ejection lasts twice as long, up to the longest; intervals got through take it back', () => {
    const rules = outliers({ baseEjection: '30s', maxEjection: '5m' });
    expect([0, 1, 2, 3, 4, 40].map((before) => ejectionMs(before, 0, rules) / 1_000)).toEqual([
      30, 60, 120, 240, 300, 300,
    ]);
    expect(ejectionMs(0, 0.5, rules)).toBe(31_500);
    const calls = detector();
    fail(calls, 'i0', 5, 0);
    fail(calls, 'i0', 5, 30_000);
    expect(calls.ejection('i0', 30_000)?.untilMs).toBe(90_000);
    // From 90 s to 130 s it gets through more intervals than it was ejected.
    calls.called('i0', true, 130_000, ids);
    fail(calls, 'i0', 5, 130_000);
    expect(calls.ejection('i0', 130_000)?.untilMs).toBe(160_000);
  });

  test('at most a share of the instances is ejected, at least one may be, and never all', () => {
    const rules = outliers({ maxEjected: 0.3 });
    expect([1, 2, 3, 4, 7, 10].map((count) => mayBeEjected(count, rules))).toEqual([
      0, 1, 1, 1, 2, 3,
    ]);
    expect(mayBeEjected(4, outliers({ maxEjected: 1 }))).toBe(3);
    const calls = detector({ maxEjected: 0.2 });
    const ejected = ids.filter((id) => fail(calls, id, 5, 0).at(-1));
    expect(ejected).toEqual(['i0', 'i1']);
    // There is room again when they return.
    expect(fail(calls, 'i5', 5, 30_000).some(Boolean)).toBe(true);
  });

  test('what was asked before the ejection, or of an instance that left, counts no more', () => {
    const calls = detector();
    fail(calls, 'i0', 5, 0);
    expect(fail(calls, 'i0', 50, 1)).not.toContain(true);
    expect(fail(calls, 'i0', 4, 30_000)).not.toContain(true);
    calls.forget('i0');
    expect(fail(calls, 'i0', 4, 30_000)).not.toContain(true);
    expect(fail(calls, 'gone', 9, 30_000)).not.toContain(true);
  });

  test('whatever happens, never all are ejected and no ejection outlasts the longest', () => {
    const call = fc.record({
      id: fc.nat({ max: 4 }),
      succeeded: fc.boolean(),
      afterMs: fc.nat({ max: 20_000 }),
      count: fc.integer({ min: 1, max: 5 }),
    });
    const options = { consecutiveFailures: 2, minCalls: 3, failureRate: 0.4, maxEjected: 1 };
    fc.assert(
      fc.property(
        fc.array(call, { maxLength: 60 }),
        fc.double({ max: 0.99, min: 0 }),
        (all, dice) => {
          const calls = detector({ ...options, maxEjection: '1m' }, () => dice);
          let nowMs = 0;
          for (const { id, succeeded, afterMs, count } of all) {
            nowMs += afterMs;
            const among = ids.slice(0, count);
            const before = among.filter((each) => calls.ejection(each, nowMs)).length;
            calls.called(`i${id}`, succeeded, nowMs, among);
            const ejections = among.flatMap((each) => calls.ejection(each, nowMs) ?? []);
            // Those ejected before may be all that is left; none is added to make it so.
            expect(ejections.length < count || ejections.length === before).toBe(true);
            for (const { untilMs } of ejections)
              expect(untilMs - nowMs).toBeLessThanOrEqual(66_000);
          }
        },
      ),
    );
  });

  test('bad rules are refused by name', () => {
    expect(() => outliers({ consecutiveFailures: -1 })).toThrow(/'eject.consecutiveFailures'/);
    expect(() => outliers({ minCalls: 0 })).toThrow(/'eject.minCalls'/);
    expect(() => outliers({ failureRate: 0 })).toThrow(/'eject.failureRate'/);
    expect(() => outliers({ maxEjected: 1.1 })).toThrow(/'eject.maxEjected'/);
    expect(() => outliers({ interval: 0 })).toThrow(/'eject.interval'/);
    expect(() => outliers({ baseEjection: '10m' })).toThrow(/'eject.maxEjection'/);
  });
});

test('a probe that would begin after the end does not', async () => {
  let runs = 0;
  const check = () => {
    runs += 1;
  };
  const timing = { intervalMs: 1_000, timeoutMs: 100, rise: 1, fall: 1 };
  const rules = { eject: undefined, damping: undefined, dampBy: 'id' } as const;
  const pace = { clock: new ManualClock(), random: () => 0 };
  const standing = new Standing<null>(
    pace,
    { ...rules, probe: { check, rules: timing } },
    () => undefined,
  );
  standing.follow({ type: 'joined', instance: instance('a') });
  await settle();
  standing.close();
  standing.follow({ type: 'joined', instance: instance('b') });
  await settle();
  expect(runs).toBe(1);
});

describe('flap damping', () => {
  const rules = flapDamping({ halfLife: '60s', maxSuppress: '5m' });
  const flaps = (...atMs: readonly number[]): Flaps =>
    atMs.reduce<Flaps | undefined>(
      (before, at) => afterFlap(before, at, rules),
      undefined,
    ) as Flaps;

  test('one coming and going holds nobody back, three in a short time do', () => {
    expect(isSuppressed(flaps(0), 0, rules)).toBe(false);
    expect(isSuppressed(flaps(0, 1_000), 1_000, rules)).toBe(false);
    expect(isSuppressed(flaps(0, 1_000, 2_000), 2_000, rules)).toBe(true);
    // Far apart they are none of each other's business.
    expect(isSuppressed(flaps(0, 120_000, 240_000), 240_000, rules)).toBe(false);
  });

  test('a penalty halves in each half-life; at the reuse limit the instance returns', () => {
    const held = flaps(0, 0, 0);
    expect(penaltyAt(held, 60_000, rules)).toBeCloseTo(1.5);
    expect(penaltyAt(held, 120_000, rules)).toBeCloseTo(0.75);
    expect(reusableAtMs(held, rules)).toBeCloseTo(120_000);
    expect(isSuppressed(held, 119_999, rules)).toBe(true);
    expect(isSuppressed(held, 120_001, rules)).toBe(false);
    // Below the suppress limit, but not yet below the reuse limit: still held back.
    expect(penaltyAt(held, 90_000, rules)).toBeLessThan(rules.suppressAt);
    expect(isSuppressed(held, 90_000, rules)).toBe(true);
  });

  test('a flap while it is held back makes that longer, up to the longest', () => {
    const longer = afterFlap(flaps(0, 0, 0), 60_000, rules);
    expect(reusableAtMs(longer, rules)).toBeGreaterThan(reusableAtMs(flaps(0, 0, 0), rules));
    const many = flaps(...Array.from({ length: 500 }, () => 0));
    expect(reusableAtMs(many, rules)).toBeCloseTo(300_000);
  });

  test('what is over is forgotten', () => {
    expect(isForgotten(flaps(0), 60_000, rules)).toBe(false);
    expect(isForgotten(flaps(0), 300_000, rules)).toBe(true);
    expect(isForgotten(flaps(0, 0, 0), 60_000, rules)).toBe(false);
  });

  test('bad rules are refused by name', () => {
    expect(() => flapDamping({ suppressAt: 0 })).toThrow(/'damping.suppressAt'/);
    expect(() => flapDamping({ reuseAt: 2 })).toThrow(/'damping.reuseAt'/);
    expect(() => flapDamping({ halfLife: 0 })).toThrow(/'damping.halfLife'/);
    expect(() => flapDamping({ maxSuppress: '1s' })).toThrow(/'damping.maxSuppress'/);
    const limits: DampingRules = flapDamping();
    expect(limits).toMatchObject({ halfLifeMs: 60_000, suppressAt: 2, reuseAt: 0.75 });
  });
});

describe('locality', () => {
  const rules = { overprovisioning: 1.4, minInstances: 1 };
  const tier = (known: number, usable: number) => ({
    known,
    usable: Array.from({ length: usable }, (_, index) => index),
  });
  const shares = (...tiers: readonly (readonly [known: number, usable: number])[]) =>
    tierShares(
      tiers.map(([known, usable]) => tier(known, usable)),
      rules,
    ).map((share) => Math.round(share * 1_000) / 1_000);

  test('what is near is what shares the widest levels', () => {
    const near = (zone: string | undefined) => closeness('eu/eu-1/rack-3', zone);
    expect(['us/eu-1', 'eu', 'eu/eu-2', 'eu/eu-1', 'eu/eu-1/rack-3', undefined].map(near)).toEqual([
      0, 1, 1, 2, 3, 0,
    ]);
    expect(closeness('eu', 'eu/eu-1')).toBe(1);
    expect(closeness('eu', 'europe')).toBe(0);
  });

  test('the nearest take all work until too many are lost; then the next take the rest', () => {
    expect(shares([10, 10], [10, 10])).toEqual([1, 0]);
    // 1.4 * 0.75 is more than 1: they can still do it.
    expect(shares([4, 3], [4, 4])).toEqual([1, 0]);
    expect(shares([4, 2], [4, 4])).toEqual([0.7, 0.3]);
    expect(shares([4, 0], [4, 4])).toEqual([0, 1]);
    expect(shares([4, 2], [10, 1], [10, 10])).toEqual([0.7, 0.14, 0.16]);
    // Together they are too few: each takes in proportion to what it can.
    expect(shares([10, 1], [10, 3])).toEqual([0.25, 0.75]);
    expect(shares([3, 0], [3, 0])).toEqual([0, 0]);
    expect(shares()).toEqual([]);
  });

  test('a tier with too few instances passes on work, however well they are', () => {
    const few = { overprovisioning: 1.4, minInstances: 4 };
    expect(tierShares([tier(1, 1), tier(8, 8)], few)).toEqual([0.25, 0.75]);
  });

  test('shares add up to one whenever anything is usable', () => {
    const counts = fc.tuple(fc.integer({ min: 1, max: 20 }), fc.nat({ max: 20 }));
    fc.assert(
      fc.property(fc.array(counts, { minLength: 1, maxLength: 5 }), (given) => {
        const tiers = given.map(([known, usable]) => tier(known, Math.min(known, usable)));
        const result = tierShares(tiers, rules);
        const total = result.reduce((sum, share) => sum + share, 0);
        expect(total).toBeCloseTo(tiers.some(({ usable }) => usable.length > 0) ? 1 : 0);
        for (const [index, share] of result.entries()) {
          if (tiers[index]?.usable.length === 0) expect(share).toBe(0);
        }
      }),
    );
  });

  test('a draw falls on a tier by its share', () => {
    expect([0, 0.69, 0.7, 0.999].map((draw) => drawTier([0.7, 0.3, 0], draw))).toEqual([
      0, 0, 1, 1,
    ]);
    // Rounding leaves nothing over.
    expect(drawTier([0.7, 0.2999999, 0], 0.99999999)).toBe(1);
  });

  test('tiers keep their order, and bad rules are refused by name', () => {
    const all = [instance('a', 'us'), instance('b', 'eu/1'), instance('c'), instance('d', 'eu/2')];
    const tiers = tiersOf(all, ({ id }) => id !== 'd', 'eu/1');
    expect(tiers.map(({ known, usable }) => [known, usable.map(({ id }) => id)])).toEqual([
      [1, ['b']],
      [1, []],
      [2, ['a', 'c']],
    ]);
    expect(() => localityRules('')).toThrow(/'locality'/);
    expect(() => localityRules('eu//1')).toThrow(/'locality'/);
    expect(() => localityRules({ zone: 'eu', overprovisioning: 0.5 })).toThrow(/overprovisioning/);
    expect(() => localityRules({ zone: 'eu', minInstances: 0 })).toThrow(/minInstances/);
  });
});

describe('health', () => {
  const rules = checkRules({ rise: 2, fall: 3 }, 'health');
  const run = (results: string): string => {
    let health: Health | undefined;
    let told = '';
    for (const result of results) {
      const passed = result === '+';
      health = afterCheck(health, passed ? { passed } : { passed, reason: 'no' }, rules);
      told += health.healthy ? '+' : '-';
    }
    return told;
  };

  test('the first check decides at once, later ones only in a row', () => {
    expect(run('+')).toBe('+');
    expect(run('-')).toBe('-');
    expect(run('+--+--+---')).toBe('+++++++++-');
    expect(run('-+-+-++')).toBe('------+');
    expect(run('+---++--+')).toBe('+++--++++');
  });

  test('bad rules are refused by name', () => {
    expect(() => checkRules({ rise: 0 }, 'health')).toThrow(/'health.rise'/);
    expect(() => checkRules({ fall: 1.5 }, 'probe')).toThrow(/'probe.fall'/);
    expect(() => checkRules({ interval: 0 }, 'health')).toThrow(/'health.interval'/);
    expect(() => checkRules({ timeout: 0 }, 'health')).toThrow(/'health.timeout'/);
  });
});

describe('selection', () => {
  const ids = ({ tiers }: ReturnType<typeof select>) =>
    tiers.map(({ instances }) => instances.map(({ id }) => id).join(''));
  const held = (...names: string[]) => {
    const all = new Set(names);
    return ({ id }: Instance<unknown>) => all.has(id);
  };
  const abcd = ['a', 'b', 'c', 'd'].map((id) => instance(id));

  test('what is held back is left out, until too little is left', () => {
    const panic = panicRules({});
    expect(select(abcd, held('a', 'b'), panic, undefined)).toMatchObject({ isPanicking: false });
    expect(ids(select(abcd, held('a', 'b'), panic, undefined))).toEqual(['cd']);
    const panicking = select(abcd, held('a', 'b', 'c'), panic, undefined);
    expect([panicking.isPanicking, ids(panicking)]).toEqual([true, ['abcd']]);
    // Never nobody, whatever the threshold.
    const never = panicRules({ threshold: 0 });
    expect(ids(select(abcd, held('a', 'b', 'c'), never, undefined))).toEqual(['d']);
    expect(ids(select(abcd, held('a', 'b', 'c', 'd'), never, undefined))).toEqual(['abcd']);
  });

  test('draining instances are never used, unhealthy ones only in the panic of Envoy', () => {
    const mixed = [
      instance('u', undefined, 'up'),
      instance('v', undefined, 'unhealthy'),
      instance('w', undefined, 'unhealthy'),
      instance('x', undefined, 'draining'),
    ];
    expect(ids(select(mixed, held(), panicRules({}), undefined))).toEqual(['u']);
    expect(ids(select(mixed, held(), panicRules({ over: 'all' }), undefined))).toEqual(['uvw']);
    expect(ids(select(mixed, held('u'), panicRules({}), undefined))).toEqual(['u']);
    const bad = mixed.filter(({ status }) => status !== 'up');
    expect(ids(select(bad, held(), panicRules({}), undefined))).toEqual([]);
    expect(ids(select(bad, held(), panicRules({ over: 'all' }), undefined))).toEqual(['vw']);
    expect(select([], held(), panicRules({}), undefined).tiers).toEqual([]);
  });

  test('unhealthy instances nearby make work spill over', () => {
    const near = ['up', 'up', 'unhealthy', 'unhealthy'] as const;
    const all = [
      ...near.map((status, index) => instance(`n${index}`, 'eu/1', status)),
      ...['f0', 'f1', 'f2', 'f3'].map((id) => instance(id, 'us/1')),
    ];
    const chosen = select(all, held(), panicRules({}), localityRules('eu/1'));
    expect(ids(chosen)).toEqual(['n0n1', 'f0f1f2f3']);
    expect(chosen.tiers.map(({ share }) => Math.round(share * 10))).toEqual([7, 3]);
    const dice = [0.1, 0.69, 0.71];
    const drawn = dice.map((draw) => drawFrom(chosen, () => draw, new Set()).length);
    expect(drawn).toEqual([2, 2, 4]);
  });

  test('what is left out of a pick leaves the rest, also where no work goes otherwise', () => {
    const chosen = select(
      [instance('a', 'eu'), instance('b', 'us'), instance('c')],
      held(),
      panicRules({}),
      localityRules('eu'),
    );
    const left = (...names: string[]) =>
      drawFrom(chosen, () => 0.5, new Set(names)).map(({ id }) => id);
    expect(left()).toEqual(['a']);
    expect(left('a')).toEqual(['b', 'c']);
    expect(left('a', 'b')).toEqual(['c']);
    expect(left('a', 'b', 'c')).toEqual([]);
  });

  test('bad rules are refused by name', () => {
    expect(() => panicRules({ threshold: 2 })).toThrow(/'panic.threshold'/);
    expect(() => panicRules({ over: 'none' as never })).toThrow(/'panic.over'/);
  });
});
