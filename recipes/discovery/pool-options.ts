/** How a pool watches its service and picks from it. */
import { invalidArgument } from '../../sdk/errors.ts';
import type { Duration } from '../../sdk/options.ts';
import { parsePeriod } from '../common/durations.ts';
import type { DampingRules } from './damping.ts';
import { type CheckTiming, checkRules } from './health.ts';
import { type LocalityOptions, type LocalityRules, localityRules } from './locality.ts';
import type { OutlierRules } from './outliers.ts';
import { type PanicOptions, type PanicRules, panicRules } from './selection.ts';
import type { Probe, StandingRules } from './standing.ts';
import { powerOfTwoChoices, type Strategy } from './strategies.ts';

export type ProbeOptions<M> = CheckTiming & {
  /** Checks an instance from here; passes unless it throws, rejects or returns false. */
  readonly check: Probe<M>;
};

export type PoolOptions<M> = {
  /** @default powerOfTwoChoices() */
  readonly strategy?: Strategy;
  /** How often everything is read again, which also shows whether the store answers. @default '10s' */
  readonly recheck?: Duration;
  /** Where this client runs, to prefer instances nearby. @default no preference */
  readonly locality?: string | LocalityOptions;
  /** Holds back instances whose calls fail: `outliers()`. @default none */
  readonly eject?: OutlierRules;
  /** Holds back instances that come and go: `flapDamping()`. @default none */
  readonly damping?: DampingRules;
  /** What makes an instance the same when it comes back. @default 'id' */
  readonly dampBy?: 'id' | 'address';
  /** Holds back instances that do not pass a check made from here. @default none */
  readonly probe?: ProbeOptions<M>;
  /** When too little is usable, what is held back is used as well. */
  readonly panic?: PanicOptions;
};

export type PoolRules<M> = {
  readonly strategy: Strategy;
  readonly recheckMs: number;
  readonly locality: LocalityRules | undefined;
  readonly panic: PanicRules;
  readonly standing: StandingRules<M>;
};

/** @throws ConclaveError INVALID_ARGUMENT */
export function poolRules<M>(options: PoolOptions<M>): PoolRules<M> {
  const {
    strategy = powerOfTwoChoices(),
    locality,
    eject,
    damping,
    dampBy = 'id',
    probe,
  } = options;
  if (dampBy !== 'id' && dampBy !== 'address') {
    throw invalidArgument('dampBy', dampBy, "'id' or 'address'");
  }
  if (probe !== undefined && typeof probe.check !== 'function') {
    throw invalidArgument('probe.check', probe.check, 'a function');
  }
  return {
    strategy,
    recheckMs: parsePeriod(options.recheck ?? '10s', 'recheck'),
    locality: locality === undefined ? undefined : localityRules(locality),
    panic: panicRules(options.panic ?? {}),
    standing: {
      eject,
      damping,
      dampBy,
      probe: probe && { check: probe.check, rules: checkRules(probe, 'probe') },
    },
  };
}
