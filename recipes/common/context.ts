/** What every recipe is made over, and how parts that outlive one call end with their session. */
import type { Session } from '../../sdk/session.ts';
import type { RecipeMetrics } from '../metrics.ts';

/** A part that runs in the background: a worker, a registration, a pool. */
export type Background = { close(): Promise<void> };

export type RecipeContext = {
  readonly session: Session;
  readonly metrics: RecipeMetrics;
  /** The parts to close before the session. Each removes itself when it closes by itself. */
  readonly background: Set<Background>;
};
