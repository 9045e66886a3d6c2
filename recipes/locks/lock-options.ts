/** The options that locks of every kind have in common, and what is made of them. */
import { invalidArgument } from '../../sdk/errors.ts';
import { type Duration, parseDuration } from '../../sdk/options.ts';
import type { Session } from '../../sdk/session.ts';
import { parsePeriod } from '../common/durations.ts';
import type { Known } from '../common/option-checks.ts';
import { patienceOf } from '../common/patience.ts';
import type { WaitOptions } from '../line/holding.ts';
import type { Membership } from '../line/line-membership.ts';
import {
  encodeLineRecord,
  type LineContent,
  type LineTerms,
  type Meta,
  shownMeta,
} from '../line/line-record.ts';
import { randomId } from '../names.ts';

export type LockOptions = {
  /** Ends a hold that lasts longer: its signal aborts with LOCK_LOST. @default no limit */
  readonly maxHold?: Duration;
  /** How often a waiter reads its place again, whatever watches say. @default '15s' */
  readonly recheck?: Duration;
};

export type TryLockOptions = {
  /** Shown to others beside the holder, with the session's own meta. */
  readonly meta?: Meta;
  /** Overrides the lock's own. */
  readonly maxHold?: Duration;
};

export type WaitLockOptions = TryLockOptions & {
  /** Gives up waiting: rejects with ABORTED. */
  readonly signal?: AbortSignal;
  /** Gives up waiting: rejects with NOT_ACQUIRED. @default no limit */
  readonly timeout?: Duration;
};

export type ResumeLockOptions = Pick<TryLockOptions, 'maxHold'>;

export const knownLockOptions: Known<LockOptions> = { maxHold: true, recheck: true };
export const knownTryOptions: Known<TryLockOptions> = { meta: true, maxHold: true };
export const knownResumeOptions: Known<ResumeLockOptions> = { maxHold: true };
export const knownWaitOptions: Known<WaitLockOptions> = {
  ...knownTryOptions,
  signal: true,
  timeout: true,
};

export class LockSettings {
  readonly recheckMs: number | undefined;
  readonly #session: Session;
  readonly #maxHold: Duration | undefined;

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(session: Session, { maxHold, recheck }: LockOptions) {
    this.#session = session;
    this.#maxHold = maxHold;
    if (recheck !== undefined) this.recheckMs = parsePeriod(recheck, 'recheck');
    this.maxHoldMs({});
  }

  /** @throws ConclaveError INVALID_ARGUMENT */
  maxHoldMs(options: TryLockOptions): number | undefined {
    const maxHold = options.maxHold ?? this.#maxHold;
    if (maxHold === undefined) return undefined;
    const ms = parseDuration(maxHold, 'maxHold');
    if (ms === 0) throw invalidArgument('maxHold', maxHold, 'longer than 0');
    return ms;
  }

  /** @throws ConclaveError INVALID_ARGUMENT */
  wait(options: WaitLockOptions): WaitOptions {
    return { ...patienceOf(options), maxHoldMs: this.maxHoldMs(options) };
  }

  /** @throws ConclaveError INVALID_ARGUMENT */
  content(meta?: Meta, terms: LineTerms = {}): LineContent {
    const sinceMs = this.#session.client.clock.wallMs();
    return { sinceMs, meta: shownMeta(this.#session, meta), terms };
  }

  membership(meta?: Meta, terms?: LineTerms): Pick<Membership, 'attempt' | 'value' | 'timing'> {
    const { recheckMs } = this;
    return {
      attempt: randomId(this.#session.client.random),
      value: encodeLineRecord(this.content(meta, terms)),
      ...(recheckMs === undefined ? {} : { timing: { recheckMs } }),
    };
  }
}
