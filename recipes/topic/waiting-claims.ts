/**
 * Claims of a group's member that its loop has not asked for yet. Their deadlines run, so they wait
 * for a quarter of one at most and go back then, as if they had not been claimed; and no more are
 * claimed at once than the loop takes in such a time, judging by how fast it took the last ones.
 */
import type { Clock } from '../../sdk/clock.ts';
import { closingPatienceMs } from '../common/repeat.ts';
import type { Claim } from '../queue/claim.ts';

/** Claimed in one exchange at most. */
const claimedAtOnce = 32;

export class WaitingClaims<T> {
  readonly #clock: Clock;
  readonly #patienceMs: number;
  readonly #returning = new Set<Promise<void>>();
  #claims: readonly Claim<T>[] = [];
  #cancel: () => void = () => undefined;
  #count = 0;
  #sinceMs = 0;
  #wereReturned = false;
  #most = 1;

  constructor(clock: Clock, ackDeadlineMs: number) {
    this.#clock = clock;
    this.#patienceMs = ackDeadlineMs / 4;
  }

  /** How many to claim now; asked when the loop wants another and none waits. */
  get most(): number {
    return this.#most;
  }

  /** @param sinceMs on the monotonic clock: from when their deadlines run */
  put(claims: readonly Claim<T>[], sinceMs: number): void {
    this.#claims = claims;
    this.#count = claims.length;
    this.#sinceMs = sinceMs;
    this.#wereReturned = false;
    if (claims.length < 2) return;
    const leftMs = Math.max(0, sinceMs + this.#patienceMs - this.#clock.monotonicMs());
    this.#cancel = this.#clock.setTimer(leftMs, () => this.#giveBack());
  }

  /** The next one that is held still; undefined when none waits. */
  take(): Claim<T> | undefined {
    for (let [claim] = this.#claims; claim !== undefined; [claim] = this.#claims) {
      this.#claims = this.#claims.slice(1);
      if (isHeld(claim)) return claim;
      this.#wereReturned = true;
    }
    this.#cancel();
    return undefined;
  }

  /** The loop asks for more than there was. */
  adapt(): void {
    const tookMs = this.#clock.monotonicMs() - this.#sinceMs;
    if (this.#wereReturned || tookMs > this.#patienceMs) this.#most = 1;
    // Twice as many would be taken in time as well.
    else if (tookMs < this.#patienceMs / 2) {
      this.#most = Math.max(this.#most, Math.min(claimedAtOnce, 2 * this.#count));
    }
  }

  /** Puts back what waits; never rejects. */
  async close(): Promise<void> {
    this.#giveBack();
    await Promise.all(this.#returning);
  }

  #giveBack(): void {
    this.#cancel();
    const claims = this.#claims;
    this.#claims = [];
    this.#wereReturned = true;
    for (const claim of claims) {
      // One that cannot be put back runs out.
      const returning = claim
        .giveBack({ timeout: closingPatienceMs })
        .catch(() => undefined)
        .finally(() => this.#returning.delete(returning));
      this.#returning.add(returning);
    }
  }
}

function isHeld<T>(claim: Claim<T>): boolean {
  try {
    claim.assertHeld();
    return true;
  } catch {
    return false;
  }
}
