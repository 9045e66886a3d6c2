/** Elections: terms rise, and whoever observes sees leaders in the order of their terms. */
import type { RecipeSession } from '../../../../recipes/session.ts';
import { hold } from '../../engine/violation.ts';
import { inSessions } from './sessions.ts';
import type { ClientContext, Workload } from './workload.ts';

export class ElectionWorkload implements Workload {
  /** By term: who led. */
  readonly #leaders = new Map<bigint, string>();

  async run(client: ClientContext): Promise<void> {
    const observes = client.choose.below(3) === 0;
    await inSessions(client, (session) =>
      observes ? this.#observe(client, session) : this.#lead(client, session),
    );
  }

  check(): void {
    // Everything is checked as it is seen.
  }

  async #lead(
    { name, knobs, ending, pause }: ClientContext,
    session: RecipeSession,
  ): Promise<void> {
    const leadership = await session
      .election<string>('chair')
      .campaign({ value: name, timeout: 20_000, signal: ending });
    this.#saw(leadership.term, name);
    await pause(knobs.meanPauseMs);
    await leadership.resign();
  }

  async #observe({ name, ending }: ClientContext, session: RecipeSession): Promise<void> {
    let before = 0n;
    const signal = AbortSignal.any([session.signal, ending]);
    for await (const leader of session.election<string>('chair').observe({ signal })) {
      if (leader === null) continue;
      const { term, value } = leader;
      hold(term >= before, 17, () => `${name} saw the leader of term ${term} after ${before}`);
      before = term;
      this.#saw(term, value);
    }
  }

  #saw(term: bigint, leader: string): void {
    const known = this.#leaders.get(term) ?? leader;
    hold(known === leader, 17, () => `${known} and ${leader} lead in term ${term}`);
    this.#leaders.set(term, leader);
  }
}
