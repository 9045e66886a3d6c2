/** Checks of counters, ids, shared values and rate limits. Pure functions of what clients did. */
import type { Outcome } from './history.ts';
import type { Commit } from './store.ts';

/** Additions are powers of this, so that a sum tells how often each of them counted. */
const BASE = 4;

/** What the addition with this number adds. */
export const additionOf = (number: number): bigint => BigInt(BASE) ** BigInt(number);

/** By number: how often each addition is in the sum. */
export const countsIn = (sum: bigint): readonly number[] =>
  [...sum.toString(BASE)].reverse().map(Number);

/** Each addition counts once, or never if it was refused, or either if nobody knows. */
export function checkSum(
  sum: bigint,
  outcomes: readonly Outcome<unknown>['kind'][],
): string | undefined {
  const counts = countsIn(sum);
  const most = Math.max(counts.length, outcomes.length);
  for (let number = 0; number < most; number += 1) {
    const count = counts[number] ?? 0;
    const outcome = outcomes[number] ?? 'fail';
    const isRight = outcome === 'ok' ? count === 1 : count <= (outcome === 'fail' ? 0 : 1);
    if (!isRight) return `addition ${number} (${outcome}) counts ${count} times`;
  }
  return undefined;
}

/** A sum as somebody was told: it has everything that was answered before it was asked for. */
export function checkSeenSum(sum: bigint, before: bigint): string | undefined {
  const counts = countsIn(sum);
  const missing = countsIn(before).findIndex((count, number) => count > (counts[number] ?? 0));
  if (missing >= 0) return `addition ${missing} was answered before, and is not in the sum`;
  const twice = counts.findIndex((count) => count > 1);
  return twice >= 0 ? `addition ${twice} is in the sum twice` : undefined;
}

/** What a shared value holds: how many changes led to it since there was none, and the last one. */
export type Content = { readonly changes: number; readonly by: string };

export type ValueChange = {
  readonly by: string;
  readonly outcome: Outcome<{ readonly revision: number }>;
};

/** Every change builds on the one before, and takes effect as its caller was told. */
export function checkValue(
  commits: readonly Commit[],
  key: string,
  changes: readonly ValueChange[],
): string[] {
  const violations: string[] = [];
  const madeAt = new Map<string, number>();
  let before = 0;
  for (const { revision, changes: all } of commits) {
    for (const { key: changed, entry } of all) {
      if (changed !== key) continue;
      if (entry === undefined) {
        before = 0;
        continue;
      }
      const { changes: count, by } = JSON.parse(entry.value) as Content;
      if (count !== before + 1)
        violations.push(`revision ${revision}: ${by} is change ${count} after ${before}`);
      if (madeAt.has(by)) violations.push(`revision ${revision}: ${by} takes effect again`);
      madeAt.set(by, revision);
      before = count;
    }
  }
  for (const { by, outcome } of changes) {
    const at = madeAt.get(by);
    if (outcome.kind === 'ok' && at !== outcome.answer.revision)
      violations.push(`${by} was told ${outcome.answer.revision}, and is at ${at}`);
    if (outcome.kind === 'fail' && at !== undefined)
      violations.push(`${by} was refused, and is at ${at}`);
  }
  return violations;
}

/** Permits that were given to somebody, by the wall clock of who took them. */
export type Taken = {
  readonly permits: number;
  readonly askedMs: number;
  readonly answeredMs: number;
};

/**
 * In no window are more permits than burst + length / interval. A permit is taken at some time
 * between the question and the answer, so only those count that certainly are inside.
 */
export function checkRate(
  taken: readonly Taken[],
  { burst, intervalMs }: { readonly burst: number; readonly intervalMs: number },
): string | undefined {
  const byAnswer = taken.toSorted((a, b) => a.answeredMs - b.answeredMs);
  for (const { askedMs: from } of taken) {
    let permits = 0;
    for (const { permits: more, askedMs, answeredMs } of byAnswer) {
      if (askedMs < from) continue;
      permits += more;
      const allowed = burst + (answeredMs - from) / intervalMs;
      // Clocks are fractions of milliseconds.
      if (permits > allowed + 1e-6)
        return `${permits} permits in the ${answeredMs - from} ms from ${from}, not ${allowed}`;
    }
  }
  return undefined;
}
