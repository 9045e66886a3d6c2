/** What an instance says of itself when it registers. */
import { invalidArgument } from '../../sdk/errors.ts';
import { checkOptions, timeLimits } from '../common/option-checks.ts';
import type { TimeLimit } from '../common/time-limit.ts';
import { checkZone } from './locality.ts';
import type { HealthOptions } from './registration-health.ts';

/** When the time is over, or the signal aborts, nothing is registered. */
export type RegisterOptions<M> = TimeLimit & {
  /** Must differ between instances; registering an id again replaces the earlier one. @default random */
  readonly id?: string;
  /** Where clients reach the instance. Register after listening. */
  readonly address: string;
  /** Relative share of work, for strategies that honour it. @default 1 */
  readonly weight?: number;
  /** Where it runs, in levels from the widest on: 'eu/eu-1'. @default it does not say */
  readonly zone?: string;
  /**
   * Checks that this process makes of itself; what they find is in the entry for all to see. The first
   * is made before the instance is listed. @default none: it is up while its session lives
   */
  readonly health?: HealthOptions;
} & (undefined extends M
    ? { readonly meta?: M }
    : { /** As the codec writes it. */ readonly meta: M });

export type InstanceData<M> = {
  readonly address: string;
  readonly meta: M;
  readonly weight: number;
  readonly zone: string | undefined;
};

const knownData = { address: true, meta: true, weight: true, zone: true } as const;

/** @throws ConclaveError INVALID_ARGUMENT */
export function checkRegistering<M>(options: RegisterOptions<M>): void {
  const known = { ...timeLimits, ...knownData, id: true, health: true } as const;
  checkOptions<Partial<RegisterOptions<unknown>>>(options, known);
}

/** @throws ConclaveError INVALID_ARGUMENT */
export function checkChange(change: Partial<InstanceData<unknown>>): void {
  checkOptions<Partial<InstanceData<unknown>>>(change, knownData, 'change');
  const { address, weight, zone } = change;
  if ('address' in change && (typeof address !== 'string' || address === '')) {
    throw invalidArgument('address', address, 'a text, not empty');
  }
  if ('weight' in change && !(Number.isFinite(weight) && (weight ?? -1) >= 0)) {
    throw invalidArgument('weight', weight, 'a number of at least 0');
  }
  if (zone !== undefined) checkZone(zone, 'zone');
}
