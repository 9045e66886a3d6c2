/**
 * Where the recipes report what operators ask about: how long members wait, how long they hold, how
 * often they get into each other's way, and what they lose. Plug in any exporter; times are
 * milliseconds. `open-telemetry.ts` is one for meters of OpenTelemetry.
 *
 * Use `name` with care as a label: names such as 'orders/42' are unbounded. Exporters that cannot
 * bear that map it to a template first.
 */
import type { ErrorCode } from '../sdk/errors.ts';

export type RecipeKind =
  | 'session'
  | 'mutex'
  | 'multi'
  | 'rw'
  | 'semaphore'
  | 'line'
  | 'rate-limit'
  | 'election'
  | 'barrier'
  | 'double-barrier'
  | 'cyclic-barrier'
  | 'latch'
  | 'counter'
  | 'adder'
  | 'ids'
  | 'value'
  | 'config'
  | 'cache'
  | 'group'
  | 'queue'
  | 'cron'
  | 'topic'
  | 'stm'
  | 'migrations'
  | 'registry'
  | 'pool';

export type Measured = { readonly recipe: RecipeKind; readonly name: string };

/**
 * How one got in another's way:
 *
 * - `wait`: it could not be granted at once, and waits.
 * - `refused`: an attempt that does not wait found it taken.
 * - `conflict`: a compare-and-set, or a claim, found that somebody else had come first since it last
 *   looked, and has to be made again.
 */
export type ContentionKind = 'wait' | 'refused' | 'conflict';

/**
 * What there is of something now, as far as this client knows by itself:
 *
 * - `waiting`: it was asked for, and has not come to anything yet.
 * - `held`: it is held: a lock, a leadership, a claim; for a session, it is open.
 */
export type CountKind = 'waiting' | 'held';

export interface RecipeMetrics {
  /** A wait ended: with the lock, the leadership, or a job (since it was due); or without. */
  waited(event: Measured & { readonly ms: number; readonly outcome: 'acquired' | ErrorCode }): void;
  /** A lock, leadership or claim ended after this long, for whatever reason. */
  held(event: Measured & { readonly ms: number }): void;
  /** Once for each wait, each refusal and each conflict. */
  contended(event: Measured & { readonly kind: ContentionKind }): void;
  /**
   * One more, or one less, of what waits or is held. What was counted up is counted down, once. For
   * exporters that show how many there are.
   */
  counted?(event: Measured & { readonly kind: CountKind; readonly change: 1 | -1 }): void;
  /** Something held was lost: session, key or claim. */
  lost(event: Measured & { readonly reason: ErrorCode }): void;
}

export const noMetrics: RecipeMetrics = {
  waited: () => undefined,
  held: () => undefined,
  contended: () => undefined,
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
    contended: (event) => guard(() => metrics.contended(event)),
    counted: (event) => guard(() => metrics.counted?.(event)),
    lost: (event) => guard(() => metrics.lost(event)),
  };
}
