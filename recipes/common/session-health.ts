/**
 * Sessions that live only while their process is well, after Consul: checks run in the process, and
 * what fails often enough loses its sessions, so that others take over what it holds. Those that are to
 * replace them wait until it is well again.
 */
import { throwIfAborted } from '../../sdk/errors.ts';
import type { SessionHealth } from '../../sdk/session.ts';
import type { HealthCheck } from '../discovery/checks.ts';
import {
  type CheckRules,
  type CheckTiming,
  checkRules,
  type Health,
  knownTiming,
} from '../discovery/health.ts';
import { monitor } from '../discovery/monitor.ts';
import { untilAborted } from '../discovery/until-aborted.ts';
import { checkFunction, checkOptions } from './option-checks.ts';
import type { Pace } from './repeat.ts';
import { linkedSignal } from './signals.ts';

export type SessionHealthOptions = CheckTiming & {
  /** What to check: a function, or `httpCheck(url)` or `tcpCheck(address)`. */
  readonly check: HealthCheck;
};

/** Where a wait is all that is left to do, its timer keeps the program alive. */
const holdMs = 60_000;

/** Runs the checks while anybody has a session by them, or waits for one. */
export class CheckedHealth implements SessionHealth {
  readonly #pace: Pace;
  readonly #check: HealthCheck;
  readonly #rules: CheckRules;
  readonly #listeners = new Set<(health: Health) => void>();
  /** The last that was found. */
  #health: Health | undefined;
  /** Whether it was found by the checks that run now. */
  #isCurrent = false;
  #stop: AbortController | undefined;

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(pace: Pace, options: SessionHealthOptions) {
    checkOptions<SessionHealthOptions>(options, { ...knownTiming, check: true }, 'health');
    checkFunction(options.check, 'health.check');
    this.#pace = pace;
    this.#check = options.check;
    this.#rules = checkRules(options, 'health');
  }

  async untilWell(signal?: AbortSignal): Promise<void> {
    throwIfAborted(signal);
    let cancelHold: () => void = () => undefined;
    const hold = () => {
      cancelHold = this.#pace.clock.setTimer(holdMs, hold, true);
    };
    hold();
    // What was well before a pause has to be found so again.
    const before = this.#health?.healthy === true ? undefined : this.#health;
    const enough = linkedSignal(signal);
    const leave = this.#listen(before, ({ healthy }) => {
      if (healthy) enough.abort();
    });
    await untilAborted(enough.signal);
    enough.unlink();
    leave();
    cancelHold();
    throwIfAborted(signal);
  }

  onceUnwell(tell: (reason: string) => void): () => void {
    const leave = this.#listen(this.#health, ({ healthy, reason = 'a check failed' }) => {
      if (healthy) return;
      leave();
      tell(reason);
    });
    return leave;
  }

  /**
   * Tells of the health from now on, as soon as it is known, but never at once.
   *
   * @param before what checks that do not run yet go on from
   */
  #listen(before: Health | undefined, tell: (health: Health) => void): () => void {
    this.#listeners.add(tell);
    if (this.#stop === undefined) this.#start(before);
    // Also what they go on from: the checks tell only what changes.
    if (this.#isCurrent) {
      queueMicrotask(() => {
        if (this.#health && this.#listeners.has(tell)) tell(this.#health);
      });
    }
    return () => {
      this.#listeners.delete(tell);
      if (this.#listeners.size > 0) return;
      this.#stop?.abort();
      this.#stop = undefined;
    };
  }

  #start(before: Health | undefined): void {
    const stop = new AbortController();
    this.#stop = stop;
    this.#isCurrent = before !== undefined;
    const tell = (health: Health) => {
      this.#health = health;
      this.#isCurrent = true;
      for (const listener of [...this.#listeners]) listener(health);
    };
    void monitor(this.#pace, this.#check, this.#rules, stop.signal, tell, before);
  }
}
