/**
 * Exactly-once pushes over a store without request ids.
 *
 * Each push under way occupies a lane: a small leased key that the push's transaction compares and
 * overwrites with the job's id. If the answer is lost, the repetition fails the comparison and finds
 * its own id in the lane, so it knows that the first attempt took effect, even when the job has been
 * done and removed since. A first attempt that is still under way fails once the lane has moved on.
 * Lanes are reused, so there are as many keys as pushes were ever under way at once.
 */
import type { Session } from '../../sdk/session.ts';

export type Lane = {
  readonly session: Session;
  readonly key: string;
  /** The lane's modRevision as last seen; 0n while it does not exist. */
  revision: bigint;
};

export class PushLanes {
  readonly #prefix: string;
  readonly #owner: string;
  #session: Session | undefined;
  #idle: Lane[] = [];
  #count = 0;

  /** @param owner tells the lanes of several queue objects of one session apart */
  constructor(prefix: string, owner: string) {
    this.#prefix = prefix;
    this.#owner = owner;
  }

  /** A lane nobody uses; it lives as long as the session. */
  take(session: Session): Lane {
    if (session !== this.#session) {
      // The lanes of a lost session are gone with its lease.
      this.#session = session;
      this.#idle = [];
    }
    const idle = this.#idle.pop();
    if (idle) return idle;
    this.#count += 1;
    const key = `${this.#prefix}${session.id}-${this.#owner}-${this.#count}`;
    return { session, key, revision: 0n };
  }

  giveBack(lane: Lane): void {
    if (lane.session === this.#session) this.#idle.push(lane);
  }
}
