/** Double barriers: a generation is exactly its parties, who enter together and leave together. */
import type { DoubleBarrierHandle } from '../../../../recipes/barriers/double-barrier.ts';
import { doubleKeys } from '../../../../recipes/barriers/double-record.ts';
import { parseRecord } from '../../../../recipes/common/json-record.ts';
import { doubleBarrierPrefix } from '../../../../recipes/names.ts';
import type { RecipeSession } from '../../../../recipes/session.ts';
import { applyChanges, type Entry } from '../../../lin/store.ts';
import { hold } from '../../engine/violation.ts';
import type { CommitLog } from '../commit-log.ts';
import { inSessions } from './sessions.ts';
import type { ClientContext, Workload } from './workload.ts';

const NAME = 'epoch';
const PARTIES = 2;

type Party = { readonly name: string; readonly inside: DoubleBarrierHandle };

export class DoubleBarrierWorkload implements Workload {
  /** By generation. */
  readonly #parties = new Map<number, Party[]>();

  async run(client: ClientContext): Promise<void> {
    await inSessions(client, async (session) => {
      while (!client.isEnding() && session.state !== 'lost') await this.#meet(client, session);
    });
  }

  check(log: CommitLog): void {
    const keys = doubleKeys(doubleBarrierPrefix(NAME));
    const entries = new Map<string, Entry>();
    for (const { revision, changes } of log.commits) {
      applyChanges(entries, changes);
      for (const { key, entry } of changes) {
        if (entry === undefined || !key.startsWith(keys.marks)) continue;
        const { through } = parseRecord({ value: Buffer.from(entry.value) });
        const folder = `${keys.folders}${key.slice(keys.marks.length)}/`;
        const there = [...entries].filter(
          ([each, { createRevision }]) =>
            each.startsWith(folder) && createRevision <= Number(through),
        ).length;
        const what = () => `${there} of ${PARTIES} parties are there at revision ${revision}`;
        hold(there === PARTIES, 46, what);
      }
    }
  }

  async #meet(client: ClientContext, session: RecipeSession): Promise<void> {
    const { name, knobs, choose, ending, pause } = client;
    const barrier = session.doubleBarrier(NAME, { parties: PARTIES, recheck: 2_000 });
    // Seldom in a hurry: gives up just when the others come.
    const timeout = choose.below(4) === 3 ? choose.exponential(knobs.meanPauseMs) : 20_000;
    const inside = await barrier.enter({ timeout, signal: ending });
    const parties = this.#parties.get(inside.generation) ?? [];
    parties.push({ name, inside });
    this.#parties.set(inside.generation, parties);
    this.#checkGeneration(inside.generation, parties);
    await pause(knobs.meanPauseMs);
    await inside.leave({ timeout: 20_000 });
    for (const party of parties) {
      hold(
        !party.inside.isHeld,
        46,
        () => `${name} has left generation ${inside.generation}, ${party.name} is inside`,
      );
    }
  }

  #checkGeneration(generation: number, parties: readonly Party[]): void {
    hold(parties.length <= PARTIES, 46, () => `${parties.length} in generation ${generation}`);
    const tokens = new Set(parties.map(({ inside }) => inside.token));
    hold(tokens.size === 1, 46, () => `generation ${generation} has ${tokens.size} tokens`);
    const [token = 0n] = tokens;
    const before = this.#parties.get(generation - 1)?.[0]?.inside.token ?? 0n;
    hold(
      token > before,
      46,
      () => `generation ${generation} has the token ${token} after ${before}`,
    );
  }
}
