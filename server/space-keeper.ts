/**
 * Clears the NOSPACE alarm by itself once there is room again: after deletes and a compaction nobody
 * has to remember to disarm it. Raising it is up to whoever admits writes.
 */
import type { Logger } from 'pino';
import type { LocalMember } from './local-member.ts';

/** Cleared well below the quota, so that the alarm does not flap around it. */
const CLEAR_BELOW = 0.9;

export class SpaceKeeper {
  readonly #member: LocalMember;
  readonly #logger: Logger;
  #isClearing = false;

  constructor(member: LocalMember, logger: Logger) {
    this.#member = member;
    this.#logger = logger;
  }

  /** Called every tick. */
  check(): void {
    if (this.#isClearing || this.#member.alarms.length === 0) return;
    const { memberId, space } = this.#member;
    const isRaised = this.#member.alarms.some(
      (alarm) => alarm.alarm === 'no-space' && alarm.memberId === memberId,
    );
    if (!isRaised || space.usedBytes >= space.quotaBytes * CLEAR_BELOW) return;
    this.#isClearing = true;
    this.#member
      .propose({ kind: 'alarm', action: 'deactivate', memberId, alarm: 'no-space' })
      .then(
        () => this.#logger.info('space is back: the NOSPACE alarm is cleared'),
        (error: unknown) => this.#logger.warn({ err: error }, 'cannot clear the NOSPACE alarm'),
      )
      .finally(() => {
        this.#isClearing = false;
      });
  }
}
