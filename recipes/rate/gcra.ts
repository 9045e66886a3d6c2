/**
 * The generic cell rate algorithm: a leaky bucket as one number. Pure.
 *
 * The number is the theoretical arrival time (TAT): when the next permit would be due if permits were
 * taken exactly at the rate. Taking n permits moves it by n intervals from max(TAT, now), and is
 * allowed when it then lies at most `burst` intervals ahead. In any window of length t at most
 * burst + t / interval permits are given out, with no seams between windows.
 *
 * After ITU-T I.371, in the virtual scheduling form.
 */

export type Rate = {
  /** Permits per period. */
  readonly rate: number;
  readonly perMs: number;
  /** Permits that can be taken at once after a rest. */
  readonly burst: number;
};

export type Verdict =
  | { readonly allowed: true; readonly tatMs: number }
  /** Not before this time, if nobody else takes any meanwhile. */
  | { readonly allowed: false; readonly atMs: number };

export function judge(rate: Rate, tatMs: number, nowMs: number, permits: number): Verdict {
  const intervalMs = rate.perMs / rate.rate;
  const next = Math.max(tatMs, nowMs) + permits * intervalMs;
  const atMs = next - rate.burst * intervalMs;
  return atMs <= nowMs ? { allowed: true, tatMs: next } : { allowed: false, atMs };
}
