/**
 * Which instance gets the next piece of work. Strategies see what is selected: instances that are up
 * and not held back; in a panic others too, but never one that is draining.
 */
import type { Instance } from './instance.ts';

export type Load = {
  /** Picks of this pool that were not released yet. */
  readonly inFlight: (id: string) => number;
  /** Uniform in [0, 1). */
  readonly random: () => number;
};

/** Chooses one of at least one instance, which come in the order of their ids. */
export type Strategy = <M>(instances: readonly Instance<M>[], load: Load) => Instance<M>;

const at = <M>(instances: readonly Instance<M>[], index: number): Instance<M> =>
  instances[index % instances.length] as Instance<M>;

const anyOf = <M>(instances: readonly Instance<M>[], { random }: Load): Instance<M> =>
  at(instances, Math.floor(random() * instances.length));

/** Load per share of weight; an instance without weight is the last resort. */
const pressure = <M>({ id, weight }: Instance<M>, { inFlight }: Load): number =>
  weight > 0 ? (inFlight(id) + 1) / weight : Number.POSITIVE_INFINITY;

export function roundRobin(): Strategy {
  let turn = 0;
  return (instances) => {
    const chosen = at(instances, turn);
    turn = (turn + 1) % Number.MAX_SAFE_INTEGER;
    return chosen;
  };
}

export const random = (): Strategy => anyOf;

/** The one with the fewest picks in flight, in proportion to its weight; ties at random. */
export const leastLoaded = (): Strategy => (instances, load) => {
  const least = Math.min(...instances.map((instance) => pressure(instance, load)));
  const idle = instances.filter((instance) => pressure(instance, load) === least);
  return anyOf(idle, load);
};

/**
 * The less loaded of two drawn at random: nearly as even as `leastLoaded`, without herding of many
 * clients onto one instance (Mitzenmacher, "The power of two choices", 2001).
 */
export const powerOfTwoChoices = (): Strategy => (instances, load) => {
  const first = Math.floor(load.random() * instances.length);
  if (instances.length === 1) return at(instances, first);
  const second = first + 1 + Math.floor(load.random() * (instances.length - 1));
  const [a, b] = [at(instances, first), at(instances, second)];
  return pressure(a, load) <= pressure(b, load) ? a : b;
};

/** At random, in proportion to the weights. */
export const weighted = (): Strategy => (instances, load) => {
  const total = instances.reduce((sum, { weight }) => sum + weight, 0);
  if (total <= 0) return anyOf(instances, load);
  let left = load.random() * total;
  for (const instance of instances) {
    left -= instance.weight;
    if (left < 0) return instance;
  }
  return at(instances, instances.length - 1);
};
