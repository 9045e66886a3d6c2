/** Ids in blocks: nobody gets one that anybody got before, and those of one allocator rise. */
import { hold } from '../../engine/violation.ts';
import { ignoreRefusal, inSessions } from './sessions.ts';
import type { ClientContext, Workload } from './workload.ts';

export class IdWorkload implements Workload {
  /** By id: who has it. */
  readonly #given = new Map<bigint, string>();

  async run(client: ClientContext): Promise<void> {
    const { name, choose, knobs, pause } = client;
    await inSessions(client, async (session) => {
      const ids = session.ids('orders', { block: 1 + choose.below(4) });
      const highest = [0n, 0n];
      // Two tasks share the allocator.
      const tasks = highest.map(async (_, task) => {
        while (!client.isEnding() && session.state !== 'lost') {
          try {
            const id = await ids.next();
            const other = this.#given.get(id);
            hold(other === undefined, 30, () => `${id} was given to ${other} and to ${name}`);
            this.#given.set(id, name);
            const before = highest[task] ?? 0n;
            hold(id > before, 30, () => `${name} got ${id} after ${before}`);
            highest[task] = id;
          } catch (error) {
            ignoreRefusal(error);
          }
          await pause(knobs.meanPauseMs);
        }
      });
      await Promise.all(tasks);
    });
  }

  check(): void {
    // Everything is checked as it is seen.
  }
}
