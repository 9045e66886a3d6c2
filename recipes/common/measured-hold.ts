/** Measuring how long something is held, and that it is. */
import type { Clock } from '../../sdk/clock.ts';
import type { Measured, RecipeMetrics } from '../metrics.ts';

/** Reports a hold from now on. @returns ends it: to be called once */
export function measureHold(
  metrics: RecipeMetrics,
  clock: Clock,
  { recipe, name }: Measured,
): () => void {
  const startedMs = clock.monotonicMs();
  metrics.counted?.({ recipe, name, kind: 'held', change: 1 });
  return () => {
    metrics.counted?.({ recipe, name, kind: 'held', change: -1 });
    metrics.held({ recipe, name, ms: clock.monotonicMs() - startedMs });
  };
}
