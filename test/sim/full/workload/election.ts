/** Elections: terms rise, and whoever observes sees leaders in the order of their terms. */
import { hold } from '../../engine/violation.ts';
import { ignoreRefusal } from './mutex.ts';
import type { ClientContext, Workload } from './workload.ts';

export class ElectionWorkload implements Workload {
  /** By term: who led. */
  readonly #leaders = new Map<bigint, string>();

  async run(client: ClientContext): Promise<void> {
    const { conclave, choose, knobs } = client;
    const observes = choose.below(3) === 0;
    while (!client.isEnding()) {
      try {
        const session = await conclave.session({ ttl: knobs.leaseTtlSeconds * 1_000 });
        try {
          if (observes) await this.#observe(client, session);
          else await this.#lead(client, session);
        } finally {
          await session.close();
        }
      } catch (error) {
        ignoreRefusal(error);
      }
      await client.pause(knobs.meanPauseMs);
    }
  }

  check(): void {
    // Everything is checked as it is seen.
  }

  async #lead(
    client: ClientContext,
    session: Awaited<ReturnType<ClientContext['conclave']['session']>>,
  ): Promise<void> {
    const { name, knobs } = client;
    const leadership = await session
      .election<string>('chair')
      .campaign({ value: name, timeout: 20_000, signal: client.ending });
    this.#saw(leadership.term, name);
    await client.pause(knobs.meanPauseMs);
    await leadership.resign();
  }

  async #observe(
    client: ClientContext,
    session: Awaited<ReturnType<ClientContext['conclave']['session']>>,
  ): Promise<void> {
    let before = 0n;
    const stop = new AbortController();
    for (const signal of [session.signal, client.ending]) {
      signal.addEventListener('abort', () => stop.abort(signal.reason));
    }
    for await (const leader of session.election<string>('chair').observe({ signal: stop.signal })) {
      if (leader !== null) {
        const { term, value } = leader;
        hold(
          term >= before,
          17,
          () => `${client.name} saw the leader of term ${term} after that of ${before}`,
        );
        before = term;
        this.#saw(term, value);
      }
      if (client.isEnding()) break;
    }
  }

  #saw(term: bigint, leader: string): void {
    const known = this.#leaders.get(term) ?? leader;
    hold(known === leader, 17, () => `${known} and ${leader} lead in term ${term}`);
    this.#leaders.set(term, leader);
  }
}
