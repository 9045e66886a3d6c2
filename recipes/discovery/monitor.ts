/** Repeats a check for as long as it is wanted, and tells what it makes of the health. */
import { type Pace, pause } from '../common/repeat.ts';
import { type HealthCheck, runCheck } from './checks.ts';
import { afterCheck, type CheckRules, type Health } from './health.ts';

/** So many checks may be given up and yet run on: those that are deaf to their signal do not add up. */
const unfinishedMax = 3;

/** Fails without a check while too many before it have not ended. */
function unlessTooMany(check: HealthCheck): HealthCheck {
  let unfinished = 0;
  return async (signal) => {
    if (unfinished >= unfinishedMax) throw new Error(`${unfinished} checks have not ended`);
    unfinished += 1;
    try {
      return await check(signal);
    } finally {
      unfinished -= 1;
    }
  };
}

/**
 * Checks at once, then after each interval, until the signal aborts. `tell` hears of the first health
 * and of each change of it. Never rejects.
 *
 * @param start the health that it had, where it goes on after a pause
 */
export async function monitor(
  pace: Pace,
  check: HealthCheck,
  rules: CheckRules,
  signal: AbortSignal,
  tell: (health: Health) => void,
  start?: Health,
): Promise<void> {
  const bounded = unlessTooMany(check);
  let health = start;
  while (!signal.aborted) {
    const result = await runCheck(pace, bounded, rules.timeoutMs, signal);
    if (signal.aborted) return;
    const before = health?.healthy;
    health = afterCheck(health, result, rules);
    if (health.healthy !== before) tell(health);
    // Spread, so that the instances of a service do not all ask what they depend on at once.
    const delayMs = rules.intervalMs * (0.9 + 0.2 * pace.random());
    await pause(pace.clock, delayMs, signal).catch(() => undefined);
  }
}
