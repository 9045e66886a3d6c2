/** From the instances that are listed to the one that gets the next piece of work. Pure. */
import { invalidArgument } from '../../sdk/errors.ts';
import { checkOptions } from '../common/option-checks.ts';
import type { Instance } from './instance.ts';
import { drawTier, type LocalityRules, tierShares, tiersOf } from './locality.ts';

export type PanicOptions = {
  /**
   * When less than this part of the instances is usable, the rest is used as well: so few would only
   * be overloaded, and what is wrong is more likely here than there. 0 to 1. @default 0.5
   */
  readonly threshold?: number;
  /**
   * What is used then. `held-back`: also what this client holds back (ejected, damped, not passing its
   * probes). `all`: also instances that say themselves that they are unhealthy, as Envoy does.
   * Draining ones never are. @default 'held-back'
   */
  readonly over?: 'held-back' | 'all';
};

export type PanicRules = Required<PanicOptions>;

/** @throws ConclaveError INVALID_ARGUMENT */
export function panicRules(options: PanicOptions): PanicRules {
  checkOptions<PanicOptions>(options, { threshold: true, over: true }, 'panic');
  const { threshold = 0.5, over = 'held-back' } = options;
  if (!(threshold >= 0 && threshold <= 1)) {
    throw invalidArgument('panic.threshold', threshold, '0 to 1');
  }
  if (over !== 'held-back' && over !== 'all') {
    throw invalidArgument('panic.over', over, "'held-back' or 'all'");
  }
  return { threshold, over };
}

/** What may be picked now. */
export type Selection<M> = {
  /** Whether so little is usable that instances are used that would be held back otherwise. */
  readonly isPanicking: boolean;
  /** Nearest first; one without locality. Shares add up to 1, unless there is no instance at all. */
  readonly tiers: readonly SelectedTier<M>[];
};

export type SelectedTier<M> = {
  /** The part of the work that goes there. */
  readonly share: number;
  readonly instances: readonly Instance<M>[];
};

export const nothing: Selection<never> = { isPanicking: false, tiers: [] };

/** @param isHeldBack whether this client holds an instance back that is up */
export function select<M>(
  listed: readonly Instance<M>[],
  isHeldBack: (instance: Instance<M>) => boolean,
  panic: PanicRules,
  locality: LocalityRules | undefined,
): Selection<M> {
  const working = listed.filter(({ status }) => status !== 'draining');
  const up = working.filter(({ status }) => status === 'up');
  const base = panic.over === 'all' ? working : up;
  const usable = new Set(up.filter((instance) => !isHeldBack(instance)));
  // Never nobody for what is only this client's opinion.
  const isPanicking =
    base.length > 0 && (usable.size === 0 || usable.size / base.length < panic.threshold);
  const selected = isPanicking ? new Set(base) : usable;
  if (locality === undefined) {
    return {
      isPanicking,
      tiers: selected.size > 0 ? [{ share: 1, instances: [...selected] }] : [],
    };
  }
  const tiers = tiersOf(working, (instance) => selected.has(instance), locality.zone);
  const shares = tierShares(tiers, locality);
  return {
    isPanicking,
    tiers: tiers
      .map(({ usable: instances }, index) => ({ share: shares[index] ?? 0, instances }))
      .filter(({ instances }) => instances.length > 0),
  };
}

/** The instances among which a strategy chooses, for a draw that is uniform in [0, 1). */
export function drawFrom<M>(
  { tiers }: Selection<M>,
  draw: () => number,
  except: ReadonlySet<string>,
): readonly Instance<M>[] {
  const [only, another] = tiers;
  if (another === undefined && except.size === 0) return only?.instances ?? [];
  const left = tiers
    .map(({ share, instances }) => ({
      share,
      instances: instances.filter(({ id }) => !except.has(id)),
    }))
    .filter(({ instances }) => instances.length > 0);
  const total = left.reduce((sum, { share }) => sum + share, 0);
  // Where no work goes otherwise, the nearest is best.
  const shares = left.map(({ share }, index) => (total > 0 ? share / total : Number(index === 0)));
  return left[drawTier(shares, draw())]?.instances ?? [];
}
