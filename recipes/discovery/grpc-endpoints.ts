/**
 * What may be picked, as a list for gRPC's round robin. Pure.
 *
 * gRPC knows neither weights nor zones of a resolver, but an endpoint that is listed twice is called
 * twice in a round, over the same connection. So an instance is listed as often as its part of the
 * work demands, and its repetitions are spread over the round.
 */
import type { Instance } from './instance.ts';
import type { Selection } from './selection.ts';

/** Longest list: each entry costs each channel a little memory at each update. */
const entriesMax = 128;
/** How far parts may be off to be good enough. */
const tolerance = 0.02;

/** The instances, each as often as its part of the work demands. */
export function roundOf<M>({ tiers }: Selection<M>, heedsWeights: boolean): readonly Instance<M>[] {
  const parts = tiers.flatMap(({ share, instances }) => {
    const weightOf = heedsWeights ? ({ weight }: Instance<M>) => weight : () => 1;
    const total = instances.reduce((sum, instance) => sum + weightOf(instance), 0);
    return instances.map((instance) => ({
      instance,
      part: share * (total > 0 ? weightOf(instance) / total : 1 / instances.length),
    }));
  });
  const used = parts.filter(({ part }) => part > 0);
  const counts = repetitions(used.map(({ part }) => part));
  return used
    .flatMap(({ instance }, index) => spread(instance, counts[index] ?? 1))
    .sort((a, b) => a.place - b.place)
    .map(({ instance }) => instance);
}

/** Small whole numbers that are to each other about as these parts are, at least 1 each. */
export function repetitions(parts: readonly number[]): readonly number[] {
  const least = Math.min(...parts);
  let best = { error: Number.POSITIVE_INFINITY, counts: parts.map(() => 1) };
  for (let scale = 1; scale <= entriesMax; scale++) {
    const exact = parts.map((part) => (part / least) * scale);
    const counts = exact.map((count) => Math.max(1, Math.round(count)));
    if (counts.reduce((sum, count) => sum + count, 0) > Math.max(entriesMax, parts.length)) break;
    const error = Math.max(
      ...exact.map((count, index) => Math.abs(1 - (counts[index] ?? 0) / count)),
    );
    if (error < best.error) best = { error, counts };
    if (error <= tolerance) break;
  }
  return Number.isFinite(best.error) ? best.counts : squeezed(parts);
}

/** For parts so unequal that the least would need a list too long: it gets more than its part. */
function squeezed(parts: readonly number[]): readonly number[] {
  const total = parts.reduce((sum, part) => sum + part, 0);
  const room = Math.max(0, entriesMax - parts.length);
  return parts.map((part) => 1 + Math.floor((part / total) * room));
}

function spread<T>(instance: T, count: number): { readonly instance: T; readonly place: number }[] {
  return Array.from({ length: count }, (_, index) => ({ instance, place: (index + 0.5) / count }));
}
