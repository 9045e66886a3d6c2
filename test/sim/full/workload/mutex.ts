/** Locks that guard a fenced resource: tokens rise, and what is fenced takes no lower one. */
import type { RecipeSession } from '../../../../recipes/session.ts';
import { checkFencing, type FencedWrite, type Hold } from '../../../lin/recipes.ts';
import { hold } from '../../engine/violation.ts';
import { ignoreRefusal, inSessions } from './sessions.ts';
import type { ClientContext, Workload } from './workload.ts';

export class MutexWorkload implements Workload {
  readonly #holds: Hold[] = [];
  readonly #writes: FencedWrite[] = [];
  #highest = 0n;

  async run(client: ClientContext): Promise<void> {
    await inSessions(client, async (session) => {
      while (!client.isEnding() && session.state !== 'lost') await this.#hold(client, session);
    });
  }

  check(): void {
    const [wrong] = checkFencing(this.#holds, this.#writes);
    hold(wrong === undefined, 14, () => `${wrong}`);
  }

  async #hold(client: ClientContext, session: RecipeSession): Promise<void> {
    const { now, name, knobs, ending } = client;
    const asked = now();
    const lock = await session.mutex('resource').acquire({ timeout: 20_000, signal: ending });
    const acquired = now();
    await client.pause(knobs.meanPauseMs);
    if (lock.isHeld) this.#write(name, lock.token);
    await client.pause(knobs.meanPauseMs);
    this.#holds.push({ holder: name, token: lock.token, asked, acquired, ended: now() });
    await lock.release().catch(ignoreRefusal);
  }

  /** The resource remembers the highest token, and refuses lower ones. */
  #write(holder: string, token: bigint): void {
    if (token < this.#highest) return;
    this.#highest = token;
    this.#writes.push({ holder, token });
  }
}
