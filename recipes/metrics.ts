/**
 * Where the recipes report what operators ask about: how long members wait, how long they hold, and
 * what they lose. Plug in any exporter; times are milliseconds.
 *
 * Use `name` with care as a label: names such as 'orders/42' are unbounded. Exporters that cannot
 * bear that map it to a template first.
 */
import type { ErrorCode } from '../sdk/errors.ts';

export type RecipeKind =
  | 'mutex'
  | 'multi'
  | 'rw'
  | 'semaphore'
  | 'line'
  | 'rate-limit'
  | 'election'
  | 'queue'
  | 'registry';

export type Measured = { readonly recipe: RecipeKind; readonly name: string };

export interface RecipeMetrics {
  /** A wait ended: with the lock, the leadership, or a job (since it was due); or without. */
  waited(event: Measured & { readonly ms: number; readonly outcome: 'acquired' | ErrorCode }): void;
  /** A lock, leadership or claim ended after this long, for whatever reason. */
  held(event: Measured & { readonly ms: number }): void;
  /** Something held was lost: session, key or claim. */
  lost(event: Measured & { readonly reason: ErrorCode }): void;
}

export const noMetrics: RecipeMetrics = {
  waited: () => undefined,
  held: () => undefined,
  lost: () => undefined,
};

/** The same metrics, whose failures break no recipe: the first is a warning of the process. */
export function harmless(metrics: RecipeMetrics): RecipeMetrics {
  let warned = false;
  const guard = (report: () => void): void => {
    try {
      report();
    } catch (error) {
      if (warned) return;
      warned = true;
      process.emitWarning(`The metrics of the recipes threw: ${error}`, 'ConclaveWarning');
    }
  };
  return {
    waited: (event) => guard(() => metrics.waited(event)),
    held: (event) => guard(() => metrics.held(event)),
    lost: (event) => guard(() => metrics.lost(event)),
  };
}
