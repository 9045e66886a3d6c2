/** A rate that all clients share: no window of it has more permits than it may. */
import { checkRate, type Taken } from '../../../lin/recipes-values.ts';
import { hold } from '../../engine/violation.ts';
import { ignoreRefusal, inSessions } from './sessions.ts';
import type { ClientContext, Workload } from './workload.ts';

const rate = { rate: 20, per: 1_000, burst: 4 };
const intervalMs = rate.per / rate.rate;
/** Clocks that are further apart make the slow ones wait too long to be waited for here. */
const patientSpreadMs = 100;

export class RateLimitWorkload implements Workload {
  readonly #taken: Taken[] = [];

  async run(client: ClientContext): Promise<void> {
    const { choose, knobs, life, pause } = client;
    const isPatient = knobs.clockSpreadMs <= patientSpreadMs;
    await inSessions(client, async (session) => {
      const limiter = session.rateLimit('calls', {
        ...rate,
        recheck: choose.below(2) === 0 ? '10m' : '1s',
      });
      while (!client.isEnding() && session.state !== 'lost') {
        const permits = 1 + choose.below(rate.burst);
        const how = choose.below(4);
        const askedMs = life.wallMs();
        try {
          const timeout = { timeout: choose.exponential(500) };
          let isTaken = true;
          if (how === 0) isTaken = await limiter.tryTake(permits);
          else await limiter.take(permits, how === 1 && isPatient ? {} : timeout);
          if (isTaken) this.#taken.push({ permits, askedMs, answeredMs: life.wallMs() });
        } catch (error) {
          ignoreRefusal(error);
        }
        await pause(knobs.meanPauseMs / 4);
      }
    });
  }

  check(): void {
    const wrong = checkRate(this.#taken, { burst: rate.burst, intervalMs });
    hold(wrong === undefined, 28, () => `${wrong}`);
  }
}
