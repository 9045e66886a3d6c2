/**
 * Claims for the slots of one worker. Slots that are free at the same time ask together: one exchange
 * for up to 32 of them, where each for itself would also race the others for the same jobs.
 */
import { afterPromises } from '../../sdk/clock.ts';
import { throwIfAborted } from '../../sdk/errors.ts';
import { underWayMost } from '../common/together.ts';
import type { Claim } from './claim.ts';
import { claimsAtOnce, type QueueConsumer } from './queue-consumer.ts';

type Slot<T> = {
  readonly resolve: (claim: Claim<T> | null) => void;
  readonly reject: (error: unknown) => void;
};

export class SharedClaims<T> {
  readonly #consumer: Pick<QueueConsumer<T>, 'claimMany' | 'isNarrow'>;
  readonly #signal: AbortSignal;
  /** In the order in which they asked. */
  #waiting: Slot<T>[] = [];
  #isScheduled = false;
  #underWay = 0;

  constructor(consumer: Pick<QueueConsumer<T>, 'claimMany' | 'isNarrow'>, signal: AbortSignal) {
    this.#consumer = consumer;
    this.#signal = signal;
  }

  /** The next job for one slot, or null when there is none to be had. @throws what `claimMany` throws */
  next(): Promise<Claim<T> | null> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#schedule();
    });
  }

  /** Slots whose jobs end in the same turn ask along. */
  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    afterPromises(() => {
      this.#isScheduled = false;
      const most = this.#consumer.isNarrow ? 1 : underWayMost;
      while (this.#waiting.length > 0 && this.#underWay < most) void this.#ask();
    });
  }

  async #ask(): Promise<void> {
    this.#underWay += 1;
    const asking = this.#waiting.splice(0, claimsAtOnce);
    try {
      throwIfAborted(this.#signal);
      const claims = await this.#consumer.claimMany(asking.length, this.#signal);
      for (const claim of claims) asking.shift()?.resolve(claim);
      // Some may mean that no more were known, or could be had: only none says that there are none.
      if (claims.length > 0) this.#waiting.unshift(...asking);
      else for (const { resolve } of asking) resolve(null);
    } catch (error) {
      for (const { reject } of asking) reject(error);
    }
    this.#underWay -= 1;
    if (this.#waiting.length > 0) this.#schedule();
  }
}
