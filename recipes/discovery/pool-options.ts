/** How a pool watches its service and picks from it. */
import { invalidArgument } from '../../sdk/errors.ts';
import type { Duration } from '../../sdk/options.ts';
import { parsePeriod } from '../common/durations.ts';
import { checkFunction, checkOptions } from '../common/option-checks.ts';
import type { DampingRules } from './damping.ts';
import { type CheckTiming, checkRules, knownTiming } from './health.ts';
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

const knownOptions = {
  strategy: true,
  recheck: true,
  locality: true,
  eject: true,
  damping: true,
  dampBy: true,
  probe: true,
  panic: true,
} as const;

/** Rules are made by a function, which checks them: options in their place would mean nothing. */
function checkMade<Rules extends object>(
  field: string,
  rules: Rules | undefined,
  part: keyof Rules,
  maker: string,
): void {
  if (rules === undefined || typeof rules?.[part] === 'number') return;
  throw invalidArgument(field, rules, `rules made by ${maker}`);
}

/** @throws ConclaveError INVALID_ARGUMENT */
export function poolRules<M>(options: PoolOptions<M>): PoolRules<M> {
  checkOptions<PoolOptions<M>>(options, knownOptions);
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
  checkFunction(strategy, 'strategy', 'a strategy such as roundRobin()');
  checkMade('eject', eject, 'intervalMs', 'outliers()');
  checkMade('damping', damping, 'halfLifeMs', 'flapDamping()');
  if (probe !== undefined) {
    checkOptions<ProbeOptions<M>>(probe, { ...knownTiming, check: true }, 'probe');
    checkFunction(probe.check, 'probe.check');
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
