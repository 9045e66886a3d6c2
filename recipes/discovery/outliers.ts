/**
 * Ejecting instances whose calls fail, for a while, as Envoy's outlier detection does. The time and
 * the dice are arguments; nothing here waits.
 *
 * An instance is ejected after so many failures in a row, or when too large a part of its calls within
 * an interval failed. Each ejection of the same instance lasts twice as long as the one before; each
 * interval that it gets through takes one ejection off its record. At most a share of the instances
 * is ejected at a time, at least one may be, and never all of them.
 */
import { invalidArgument } from '../../sdk/errors.ts';
import type { Duration } from '../../sdk/options.ts';
import { durationOfAtLeast, parsePeriod } from '../common/durations.ts';
import { checkOptions } from '../common/option-checks.ts';

export type OutlierOptions = {
  /** Failures in a row that eject; 0 for any number. @default 5 */
  readonly consecutiveFailures?: number;
  /** The part of the calls of an interval that must fail to eject, above 0 up to 1. @default 0.85 */
  readonly failureRate?: number;
  /** Calls that an instance must have had in an interval for its rate to count. @default 50 */
  readonly minCalls?: number;
  /** @default '10s' */
  readonly interval?: Duration;
  /** The first ejection; later ones last twice as long each. @default '30s' */
  readonly baseEjection?: Duration;
  /** @default '5m' */
  readonly maxEjection?: Duration;
  /** The share of the instances that may be ejected at a time, 0 to 1; one always may. @default 0.1 */
  readonly maxEjected?: number;
};

export type OutlierRules = {
  readonly consecutiveFailures: number;
  readonly failureRate: number;
  readonly minCalls: number;
  readonly intervalMs: number;
  readonly baseEjectionMs: number;
  readonly maxEjectionMs: number;
  readonly maxEjected: number;
};

export type EjectionReason = 'consecutive-failures' | 'failure-rate';

export type Ejection = {
  readonly reason: EjectionReason;
  readonly untilMs: number;
};

const knownOptions = {
  consecutiveFailures: true,
  failureRate: true,
  minCalls: true,
  interval: true,
  baseEjection: true,
  maxEjection: true,
  maxEjected: true,
} as const;

/** Rules for `pool({ eject })`. @throws ConclaveError INVALID_ARGUMENT */
export function outliers(options: OutlierOptions = {}): OutlierRules {
  checkOptions<OutlierOptions>(options, knownOptions, 'eject');
  const { consecutiveFailures = 5, failureRate = 0.85, minCalls = 50, maxEjected = 0.1 } = options;
  whole('eject.consecutiveFailures', consecutiveFailures, 0);
  whole('eject.minCalls', minCalls, 1);
  if (!(failureRate > 0 && failureRate <= 1)) {
    throw invalidArgument('eject.failureRate', failureRate, 'above 0 and at most 1');
  }
  if (!(maxEjected >= 0 && maxEjected <= 1)) {
    throw invalidArgument('eject.maxEjected', maxEjected, '0 to 1');
  }
  const base = options.baseEjection ?? '30s';
  return {
    consecutiveFailures,
    failureRate,
    minCalls,
    maxEjected,
    intervalMs: parsePeriod(options.interval ?? '10s', 'eject.interval'),
    baseEjectionMs: parsePeriod(base, 'eject.baseEjection'),
    maxEjectionMs: durationOfAtLeast(options.maxEjection ?? '5m', 'eject.maxEjection', base),
  };
}

function whole(field: string, value: number, least: number): void {
  if (!(Number.isSafeInteger(value) && value >= least)) {
    throw invalidArgument(field, value, `a whole number of at least ${least}`);
  }
}

/** How many of so many instances may be ejected at a time: never all of them. */
export const mayBeEjected = (instances: number, { maxEjected }: OutlierRules): number =>
  Math.min(instances - 1, Math.max(1, Math.floor(instances * maxEjected)));

/**
 * How long the next ejection lasts, after so many before. Up to a tenth is added by the dice, so that
 * instances ejected together do not come back together.
 */
export const ejectionMs = (before: number, dice: number, rules: OutlierRules): number =>
  Math.min(rules.maxEjectionMs, rules.baseEjectionMs * 2 ** Math.min(before, 40)) *
  (1 + 0.1 * dice);

export type CallRecord = {
  readonly failuresInRow: number;
  /** Of the current interval. */
  readonly calls: number;
  readonly failures: number;
  /** How often it was ejected, less the intervals it got through since. */
  readonly ejections: number;
  readonly ejection: Ejection | undefined;
};

const blank: CallRecord = {
  failuresInRow: 0,
  calls: 0,
  failures: 0,
  ejections: 0,
  ejection: undefined,
};

export const afterCall = (record: CallRecord, succeeded: boolean): CallRecord => ({
  ...record,
  calls: record.calls + 1,
  failures: record.failures + (succeeded ? 0 : 1),
  failuresInRow: succeeded ? 0 : record.failuresInRow + 1,
});

/** Why the calls so far are reason enough to eject it. */
export function verdictOn(
  { failuresInRow, calls, failures }: CallRecord,
  rules: OutlierRules,
  when: 'call' | 'end of interval',
): EjectionReason | undefined {
  const { consecutiveFailures, minCalls, failureRate } = rules;
  if (consecutiveFailures > 0 && failuresInRow >= consecutiveFailures) {
    return 'consecutive-failures';
  }
  const isOutlier = calls >= minCalls && failures / calls >= failureRate;
  return when === 'end of interval' && isOutlier ? 'failure-rate' : undefined;
}

/** The calls of one pool's instances. Deterministic: equal calls, times and dice give equal answers. */
export class OutlierDetector {
  readonly #rules: OutlierRules;
  readonly #dice: () => number;
  readonly #records = new Map<string, CallRecord>();
  #intervalEndMs: number;

  /** @param dice uniform in [0, 1) */
  constructor(rules: OutlierRules, dice: () => number, nowMs: number) {
    this.#rules = rules;
    this.#dice = dice;
    this.#intervalEndMs = nowMs + rules.intervalMs;
  }

  /** The ejection that is under way, if any. */
  ejection(id: string, nowMs: number): Ejection | undefined {
    const ejection = this.#records.get(id)?.ejection;
    return ejection && ejection.untilMs > nowMs ? ejection : undefined;
  }

  /**
   * A call of this instance has ended.
   *
   * @param ids the instances there are
   * @returns whether any is ejected for it
   */
  called(id: string, succeeded: boolean, nowMs: number, ids: readonly string[]): boolean {
    const ejectedAny = nowMs >= this.#intervalEndMs && this.#endInterval(nowMs, ids);
    // What it was asked before it was ejected says nothing new.
    if (this.ejection(id, nowMs) || !ids.includes(id)) return ejectedAny;
    const record = afterCall(this.#records.get(id) ?? blank, succeeded);
    this.#records.set(id, record);
    const reason = verdictOn(record, this.#rules, 'call');
    return (reason !== undefined && this.#eject(id, reason, nowMs, ids)) || ejectedAny;
  }

  /** It is gone: an instance of the same name starts anew. */
  forget(id: string): void {
    this.#records.delete(id);
  }

  #endInterval(nowMs: number, ids: readonly string[]): boolean {
    const { intervalMs } = this.#rules;
    const startMs = this.#intervalEndMs - intervalMs;
    this.#intervalEndMs = startMs + (1 + Math.floor((nowMs - startMs) / intervalMs)) * intervalMs;
    let ejectedAny = false;
    for (const [id, record] of this.#records) {
      if (this.ejection(id, nowMs)) continue;
      const reason = verdictOn(record, this.#rules, 'end of interval');
      if (reason !== undefined && this.#eject(id, reason, nowMs, ids)) {
        ejectedAny = true;
        continue;
      }
      // Intervals of an ejection prove nothing.
      const fromMs = Math.max(startMs, record.ejection?.untilMs ?? startMs);
      const gotThrough = Math.floor((nowMs - fromMs) / intervalMs);
      const ejections = Math.max(0, record.ejections - gotThrough);
      this.#records.set(id, { ...record, calls: 0, failures: 0, ejections, ejection: undefined });
    }
    return ejectedAny;
  }

  /** Whether it may be, and now is. */
  #eject(id: string, reason: EjectionReason, nowMs: number, ids: readonly string[]): boolean {
    const ejected = ids.filter((each) => this.ejection(each, nowMs)).length;
    if (ejected >= mayBeEjected(ids.length, this.#rules)) return false;
    const before = this.#records.get(id)?.ejections ?? 0;
    const untilMs = nowMs + ejectionMs(before, this.#dice(), this.#rules);
    this.#records.set(id, { ...blank, ejections: before + 1, ejection: { reason, untilMs } });
    return true;
  }
}
