/** What the health of an instance means for its entry. */
import type { Duration } from '../../sdk/options.ts';
import { durationOfAtLeast } from '../common/durations.ts';
import { checkFunction, checkOptions } from '../common/option-checks.ts';
import type { Pace } from '../common/repeat.ts';
import { linkedSignal, onAbort } from '../common/signals.ts';
import type { HealthCheck } from './checks.ts';
import {
  type CheckRules,
  type CheckTiming,
  checkRules,
  type Health,
  knownTiming,
} from './health.ts';
import { monitor } from './monitor.ts';
import { untilAborted } from './until-aborted.ts';

export type HealthOptions = CheckTiming & {
  /** What to check: a function, or `httpCheck(url)` or `tcpCheck(address)`. */
  readonly check: HealthCheck;
  /**
   * After so long without being healthy the instance is taken off the list. It returns when it is
   * healthy again. @default never
   */
  readonly withdrawAfter?: Duration;
};

export type HealthPlan = {
  readonly check: HealthCheck;
  readonly rules: CheckRules;
  readonly withdrawAfterMs: number | undefined;
};

const knownOptions = { ...knownTiming, check: true, withdrawAfter: true } as const;

/** @throws ConclaveError INVALID_ARGUMENT */
export function healthPlan(options: HealthOptions): HealthPlan {
  checkOptions<HealthOptions>(options, knownOptions, 'health');
  const { check, withdrawAfter } = options;
  checkFunction(check, 'health.check');
  return {
    check,
    rules: checkRules(options, 'health'),
    withdrawAfterMs:
      withdrawAfter === undefined
        ? undefined
        : durationOfAtLeast(withdrawAfter, 'health.withdrawAfter', '1ms'),
  };
}

/** Runs the checks of one registration. */
export class RegistrationHealth {
  readonly #pace: Pace;
  readonly #plan: HealthPlan;
  readonly #onChange: () => void;
  #health: Health | undefined;
  #isWithdrawn = false;
  #cancelWithdrawal: () => void = () => undefined;

  /** @param onChange the entry is to be written anew, or taken away */
  constructor(pace: Pace, plan: HealthPlan, onChange: () => void) {
    this.#pace = pace;
    this.#plan = plan;
    this.#onChange = onChange;
  }

  get isHealthy(): boolean {
    return this.#health?.healthy === true;
  }

  /** Why it is unhealthy: what the check found that made it so, not those since. */
  get reason(): string | undefined {
    return this.#health?.reason;
  }

  /** Whether it was unhealthy for so long that it is to be taken off the list. */
  get isWithdrawn(): boolean {
    return this.#isWithdrawn;
  }

  /** Checks until the signal aborts. Resolves after the first check, or when the signal aborts. */
  start(signal: AbortSignal): Promise<void> {
    const first = linkedSignal(signal);
    void monitor(this.#pace, this.#plan.check, this.#plan.rules, signal, (health) => {
      this.#tell(health);
      first.abort();
    });
    onAbort(signal, () => this.#cancelWithdrawal());
    return untilAborted(first.signal);
  }

  #tell(health: Health): void {
    const { withdrawAfterMs } = this.#plan;
    this.#health = health;
    this.#cancelWithdrawal();
    this.#isWithdrawn = false;
    if (!health.healthy && withdrawAfterMs !== undefined) {
      this.#cancelWithdrawal = this.#pace.clock.setTimer(withdrawAfterMs, () => {
        this.#isWithdrawn = true;
        this.#onChange();
      });
    }
    this.#onChange();
  }
}
