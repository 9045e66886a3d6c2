/**
 * When a schedule is due. Pure: the time is given. The pattern is read by `croner`.
 *
 * Daylight saving: a time that the clocks skip runs when they have jumped (02:30 at 03:00); a time
 * that comes twice runs the first time only, unless the pattern names every hour, which then includes
 * both. Wall-clock patterns so run exactly once a day, and hourly ones once each hour that passes.
 */
import { Cron as Pattern } from 'croner';
import { invalidArgument } from '../../sdk/errors.ts';

/** What becomes of slots that nobody was there to run in time. */
export type MissedPolicy = 'skip' | 'run-once' | 'run-all';

export type Slot = {
  readonly atMs: number;
  /** It is run later than it should have been. */
  readonly missed: boolean;
};

export type SlotPlan = {
  /** In order; each is to be run once. */
  readonly runs: readonly Slot[];
  /** The newest slot that is due: everything up to it is settled by the runs. */
  readonly upToMs: number;
  /** Slots that are due and not run. */
  readonly skipped: boolean;
};

export class Schedule {
  readonly #pattern: Pattern;

  /**
   * @param pattern five fields, or six with seconds first, or a nickname such as `@daily`
   * @param zone an IANA time zone
   * @throws ConclaveError INVALID_ARGUMENT
   */
  constructor(pattern: string, zone: string) {
    try {
      new Intl.DateTimeFormat('en', { timeZone: zone });
    } catch {
      throw invalidArgument('tz', zone, "an IANA time zone such as 'Europe/Paris' or 'UTC'");
    }
    const allowed = "a cron pattern such as '0 6 * * *' that comes again and again";
    try {
      this.#pattern = new Pattern(pattern, { timezone: zone, paused: true });
    } catch (error) {
      const why = error instanceof Error ? ` (${error.message})` : '';
      throw invalidArgument('pattern', pattern, allowed + why);
    }
    if (this.after(0) === undefined) throw invalidArgument('pattern', pattern, allowed);
  }

  /** The first slot after this time. */
  after(ms: number): number | undefined {
    return this.#pattern.nextRun(new Date(ms))?.getTime();
  }

  /** The last slots up to this time, it included; the oldest first. */
  upTo(ms: number, count: number): readonly number[] {
    return this.#pattern
      .previousRuns(count, new Date(ms + 1))
      .map((slot) => slot.getTime())
      .toReversed();
  }

  /**
   * What to run now.
   *
   * @param lastMs the last slot that is settled
   * @param lateAfterMs a slot this much in the past was missed
   * @param atMost runs of 'run-all': the newest ones
   * @returns undefined when nothing is due
   */
  plan(
    lastMs: number,
    nowMs: number,
    policy: MissedPolicy,
    { lateAfterMs, atMost }: { readonly lateAfterMs: number; readonly atMost: number },
  ): SlotPlan | undefined {
    const due = this.upTo(nowMs, atMost + 1).filter((slot) => slot > lastMs);
    const newest = due.at(-1);
    if (newest === undefined) return undefined;
    const slot = (atMs: number): Slot => ({ atMs, missed: nowMs - atMs > lateAfterMs });
    const last = slot(newest);
    let runs: readonly Slot[];
    switch (policy) {
      case 'skip':
        runs = last.missed ? [] : [last];
        break;
      case 'run-once':
        runs = [last];
        break;
      case 'run-all':
        runs = due.slice(-atMost).map(slot);
        break;
    }
    return { runs, upToMs: newest, skipped: runs.length < due.length };
  }
}
