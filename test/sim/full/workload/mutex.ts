/** Locks that guard a fenced resource: tokens rise, and what is fenced takes no lower one. */
import { isConclaveError } from '../../../../sdk/errors.ts';
import {
  checkFencing,
  type FencedWrite,
  type Hold,
  overlappingHolds,
} from '../../../lin/recipes.ts';
import { hold } from '../../engine/violation.ts';
import type { ClientContext, Workload } from './workload.ts';

export class MutexWorkload implements Workload {
  readonly #holds: Hold[] = [];
  readonly #writes: FencedWrite[] = [];
  #highest = 0n;
  /** Pairs of holders at one time: possible with pauses, and counted rather than forbidden. */
  overlaps = 0;

  async run(client: ClientContext): Promise<void> {
    const { conclave, now, name, knobs } = client;
    while (!client.isEnding()) {
      try {
        const session = await conclave.session({ ttl: knobs.leaseTtlSeconds * 1_000 });
        try {
          while (!client.isEnding() && session.state !== 'lost') {
            const asked = now();
            const lock = await session
              .mutex('resource')
              .acquire({ timeout: 20_000, signal: client.ending });
            const acquired = now();
            let ended = Number.POSITIVE_INFINITY;
            lock.signal.addEventListener('abort', () => {
              ended = Math.min(ended, now());
            });
            await client.pause(knobs.meanPauseMs);
            if (lock.isHeld) this.#write(name, lock.token);
            await client.pause(knobs.meanPauseMs);
            await lock.release().catch(ignoreRefusal);
            const until = Math.min(ended, now());
            this.#holds.push({ holder: name, token: lock.token, asked, acquired, ended: until });
          }
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
    const [wrong] = checkFencing(this.#holds, this.#writes);
    hold(wrong === undefined, 14, () => `${wrong}`);
    this.overlaps = overlappingHolds(this.#holds).length;
  }

  /** The resource remembers the highest token, and refuses lower ones. */
  #write(holder: string, token: bigint): void {
    if (token < this.#highest) return;
    this.#highest = token;
    this.#writes.push({ holder, token });
  }
}

/** What the SDK says when the store does not answer, or a session is gone, is part of life. */
export function ignoreRefusal(error: unknown): void {
  if (!isConclaveError(error)) throw error;
}
