/**
 * Holding back an instance that comes and goes, as routers hold back a route that flaps (RFC 2439).
 * Pure: the time is an argument.
 *
 * Each flap adds a penalty of 1, which decays exponentially. At `suppressAt` the instance is held
 * back, and is until the penalty has decayed to `reuseAt`. The penalty is bounded so that nobody is
 * held back for longer than `maxSuppress` after the last flap.
 */
import { invalidArgument } from '../../sdk/errors.ts';
import type { Duration } from '../../sdk/options.ts';
import { parsePeriod } from '../common/durations.ts';
import { checkOptions } from '../common/option-checks.ts';

export type DampingOptions = {
  /** How long until a penalty is half of what it was. @default '1m' */
  readonly halfLife?: Duration;
  /** In flaps; with 2 the third one within a half-life. @default 2 */
  readonly suppressAt?: number;
  /** In flaps; below `suppressAt`. @default 0.75 */
  readonly reuseAt?: number;
  /** @default '5m' */
  readonly maxSuppress?: Duration;
};

export type DampingRules = {
  readonly halfLifeMs: number;
  readonly suppressAt: number;
  readonly reuseAt: number;
  readonly maxPenalty: number;
};

/** The flaps of one instance. */
export type Flaps = {
  /** As it was at `atMs`. */
  readonly penalty: number;
  readonly atMs: number;
  readonly suppressed: boolean;
};

/** Rules for `pool({ damping })`. @throws ConclaveError INVALID_ARGUMENT */
export function flapDamping(options: DampingOptions = {}): DampingRules {
  const known = { halfLife: true, suppressAt: true, reuseAt: true, maxSuppress: true } as const;
  checkOptions<DampingOptions>(options, known, 'damping');
  const { suppressAt = 2, reuseAt = 0.75 } = options;
  const halfLifeMs = parsePeriod(options.halfLife ?? '1m', 'damping.halfLife');
  const maxSuppressMs = parsePeriod(options.maxSuppress ?? '5m', 'damping.maxSuppress');
  if (!(Number.isFinite(suppressAt) && suppressAt > 0)) {
    throw invalidArgument('damping.suppressAt', suppressAt, 'a number above 0');
  }
  if (!(reuseAt > 0 && reuseAt < suppressAt)) {
    throw invalidArgument(
      'damping.reuseAt',
      reuseAt,
      `above 0 and below suppressAt, ${suppressAt}`,
    );
  }
  const maxPenalty = reuseAt * 2 ** (maxSuppressMs / halfLifeMs);
  if (maxPenalty < suppressAt) {
    const allowed = 'long enough for a penalty of suppressAt to decay to reuseAt';
    throw invalidArgument('damping.maxSuppress', options.maxSuppress ?? '5m', allowed);
  }
  return { halfLifeMs, suppressAt, reuseAt, maxPenalty };
}

export const penaltyAt = ({ penalty, atMs }: Flaps, nowMs: number, rules: DampingRules): number =>
  penalty * 0.5 ** (Math.max(0, nowMs - atMs) / rules.halfLifeMs);

/** It came or went once more. */
export function afterFlap(flaps: Flaps | undefined, nowMs: number, rules: DampingRules): Flaps {
  const before = flaps ? penaltyAt(flaps, nowMs, rules) : 0;
  const penalty = Math.min(rules.maxPenalty, before + 1);
  const wasSuppressed = flaps !== undefined && isSuppressed(flaps, nowMs, rules);
  return { penalty, atMs: nowMs, suppressed: wasSuppressed || penalty >= rules.suppressAt };
}

export const isSuppressed = (flaps: Flaps, nowMs: number, rules: DampingRules): boolean =>
  flaps.suppressed && nowMs < reusableAtMs(flaps, rules);

/** When it will have been held back for long enough, if it does not flap again. */
export const reusableAtMs = ({ penalty, atMs }: Flaps, rules: DampingRules): number =>
  atMs + rules.halfLifeMs * Math.max(0, Math.log2(penalty / rules.reuseAt));

/** Whether what is left of the penalty is too little to matter: it may be forgotten. */
export const isForgotten = (flaps: Flaps, nowMs: number, rules: DampingRules): boolean =>
  !isSuppressed(flaps, nowMs, rules) && penaltyAt(flaps, nowMs, rules) < rules.reuseAt / 8;
