/** Service discovery: an instance that is registered in a live session is listed. */
import type { RecipeSession } from '../../../../recipes/session.ts';
import { hold } from '../../engine/violation.ts';
import { inSessions } from './sessions.ts';
import type { ClientContext, Workload } from './workload.ts';

export class RegistryWorkload implements Workload {
  async run(client: ClientContext): Promise<void> {
    await inSessions(client, (session) => this.#serve(client, session));
  }

  check(): void {
    // Everything is checked as it is seen.
  }

  async #serve(client: ClientContext, session: RecipeSession): Promise<void> {
    const { name, knobs, ending, choose } = client;
    const service = session.discovery<undefined>('workers');
    const registration = await service.register({ address: name, signal: ending });
    for (let looks = choose.below(5); looks > 0 && !client.isEnding(); looks -= 1) {
      await client.pause(knobs.meanPauseMs);
      const wasListed = session.state === 'live';
      const listed = await service.list();
      const isListed = listed.some(({ id }) => id === registration.id);
      // Only a session that lives through the whole look must be seen in it.
      if (!wasListed || session.state !== 'live') continue;
      hold(isListed, 13, () => `${name} is registered in a live session and not listed`);
    }
    await registration.deregister();
  }
}
