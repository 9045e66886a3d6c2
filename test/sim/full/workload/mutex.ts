/**
 * Locks that guard a fenced resource: beside what every lock promises, tokens rise in real time, and
 * what is fenced takes no lower one.
 */
import { checkFencing, type FencedWrite, type Hold } from '../../../lin/recipes.ts';
import { hold } from '../../engine/violation.ts';
import type { CommitLog } from '../commit-log.ts';
import { mutex } from './lock-kinds.ts';
import { LockWorkload } from './locks.ts';

export class MutexWorkload extends LockWorkload {
  readonly #holds: Hold[] = [];
  readonly #writes: FencedWrite[] = [];
  #highest = 0n;

  constructor() {
    super({
      ...mutex,
      take: async (client, session, patience, recheck) => {
        const asked = client.now();
        const held = await mutex.take(client, session, patience, recheck);
        const token = held?.places[0]?.token;
        if (token === undefined) return held;
        const now = client.now();
        this.#holds.push({ holder: client.name, token, asked, acquired: now, ended: now });
        return held;
      },
      whileHeld: async ({ name }, held) => {
        const token = held.places[0]?.token;
        if (token !== undefined && held.isHeld) this.#write(name, token);
      },
    });
  }

  override check(log: CommitLog): void {
    super.check(log);
    const [wrong] = checkFencing(this.#holds, this.#writes);
    hold(wrong === undefined, 14, () => `${wrong}`);
  }

  /** The resource remembers the highest token, and refuses lower ones. */
  #write(holder: string, token: bigint): void {
    if (token < this.#highest) return;
    this.#highest = token;
    this.#writes.push({ holder, token });
  }
}
