/**
 * Preferring instances that are near, and how much goes farther away when those are too few or not
 * well. Pure.
 *
 * Instances are sorted into tiers by how near they are. A tier takes as much of the work as it has
 * room for, the next one takes what is left, and so on: the priority levels of Envoy, with its factor
 * of overprovisioning (1.4), so that a tier keeps all of its work until more than 28 % of it are lost.
 */
import { invalidArgument } from '../../sdk/errors.ts';
import { checkOptions } from '../common/option-checks.ts';

export type LocalityOptions = {
  /**
   * Where this client runs, in the levels that instances give as `zone`, from the widest on:
   * 'eu/eu-1' is nearer to 'eu/eu-2' than to 'us/us-1'.
   */
  readonly zone: string;
  /** By how much a tier can do more than its share when it is whole. @default 1.4 */
  readonly overprovisioning?: number;
  /** A tier with fewer usable instances passes on a part of its work, however well they are. @default 1 */
  readonly minInstances?: number;
};

export type LocalityRules = Required<LocalityOptions>;

/** @throws ConclaveError INVALID_ARGUMENT */
export function localityRules(given: string | LocalityOptions): LocalityRules {
  const options = typeof given === 'string' ? { zone: given } : given;
  const known = { zone: true, overprovisioning: true, minInstances: true } as const;
  checkOptions<LocalityOptions>(options, known, 'locality');
  const { zone, overprovisioning = 1.4, minInstances = 1 } = options;
  checkZone(zone, 'locality');
  if (!(Number.isFinite(overprovisioning) && overprovisioning >= 1)) {
    throw invalidArgument('locality.overprovisioning', overprovisioning, 'a number of at least 1');
  }
  if (!(Number.isSafeInteger(minInstances) && minInstances >= 1)) {
    throw invalidArgument('locality.minInstances', minInstances, 'a whole number of at least 1');
  }
  return { zone, overprovisioning, minInstances };
}

/** @throws ConclaveError INVALID_ARGUMENT */
export function checkZone(zone: unknown, field: string): void {
  const isZone = typeof zone === 'string' && zone.split('/').every((level) => level !== '');
  if (!isZone) throw invalidArgument(field, zone, "levels such as 'eu' or 'eu/eu-1', none empty");
}

/** How many levels two places share, from the widest on. */
export function closeness(own: string, other: string | undefined): number {
  if (other === undefined) return 0;
  const levels = other.split('/');
  const differing = own.split('/').findIndex((level, index) => level !== levels[index]);
  return differing < 0 ? own.split('/').length : differing;
}

export type Tier<T> = {
  /** Those that could take work if they were well. */
  readonly known: number;
  readonly usable: readonly T[];
};

/** The tiers that have any instance at all, the nearest first; order within a tier is kept. */
export function tiersOf<T extends { readonly zone: string | undefined }>(
  known: readonly T[],
  isUsable: (instance: T) => boolean,
  own: string,
): readonly Tier<T>[] {
  const byCloseness = new Map<number, T[]>();
  for (const instance of known) {
    const near = closeness(own, instance.zone);
    const tier = byCloseness.get(near);
    if (tier) tier.push(instance);
    else byCloseness.set(near, [instance]);
  }
  return [...byCloseness]
    .sort(([one], [other]) => other - one)
    .map(([, instances]) => ({ known: instances.length, usable: instances.filter(isUsable) }));
}

/** Which part of the work each tier takes, nearest first; they add up to 1 if anything is usable. */
export function tierShares(
  tiers: readonly Tier<unknown>[],
  { overprovisioning, minInstances }: Omit<LocalityRules, 'zone'>,
): readonly number[] {
  const room = tiers.map(({ known, usable }) =>
    Math.min(1, (overprovisioning * usable.length) / known, usable.length / minInstances),
  );
  let left = Math.min(1, sum(room));
  const total = left;
  return room.map((capacity) => {
    const taken = Math.min(capacity, left);
    left -= taken;
    return total > 0 ? taken / total : 0;
  });
}

/** The tier that a draw, uniform in [0, 1), falls on. */
export function drawTier(shares: readonly number[], draw: number): number {
  let left = draw;
  const chosen = shares.findIndex((share) => {
    left -= share;
    return left < 0;
  });
  // Rounding may leave a rest: it belongs to the last tier that takes anything.
  return chosen < 0 ? shares.findLastIndex((share) => share > 0) : chosen;
}

const sum = (numbers: readonly number[]): number =>
  numbers.reduce((total, each) => total + each, 0);
