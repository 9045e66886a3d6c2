/** Barriers: whoever passes one saw it down. */
import type { RaisedBarrier } from '../../../../recipes/barriers/barrier.ts';
import type { RecipeSession } from '../../../../recipes/session.ts';
import { hold } from '../../engine/violation.ts';
import { ignoreRefusal, inSessions } from './sessions.ts';
import type { ClientContext, Workload } from './workload.ts';

const NAME = 'gate';

export class BarrierWorkload implements Workload {
  /** What keeps the barrier up, as far as its keeper knows; the last one counts. */
  #raised: { readonly keeper: string; readonly raised: RaisedBarrier } | undefined;

  async run(client: ClientContext): Promise<void> {
    const keeps = client.choose.below(3) === 0;
    await inSessions(client, async (session) => {
      while (!client.isEnding() && session.state !== 'lost') {
        if (keeps) await this.#keep(client, session);
        else await this.#pass(client, session);
      }
    });
  }

  check(): void {
    // Everything is checked as it is seen.
  }

  async #keep({ name, knobs, choose, pause }: ClientContext, session: RecipeSession) {
    const barrier = session.barrier(NAME, { recheck: 2_000 });
    const raised = await barrier.raise();
    if (raised === null) {
      await pause(knobs.meanPauseMs);
      return;
    }
    this.#raised = { keeper: name, raised };
    await pause(4 * knobs.meanPauseMs);
    // As an operator would; its keeper learns of it, but not at once.
    const byHand = choose.below(4) === 3;
    this.#raised = undefined;
    if (byHand) await barrier.lower().catch(ignoreRefusal);
    await raised.release().catch(ignoreRefusal);
    await pause(knobs.meanPauseMs);
  }

  async #pass({ name, knobs, choose, ending, pause }: ClientContext, session: RecipeSession) {
    const before = this.#raised;
    await session
      .barrier(NAME, { recheck: 2_000 })
      .wait({ timeout: 20_000, signal: ending, announce: choose.below(2) === 0 });
    const stands = before !== undefined && before === this.#raised && before.raised.isHeld;
    hold(!stands, 45, () => `${name} passed while ${before?.keeper} held the barrier up`);
    await pause(knobs.meanPauseMs);
  }
}
