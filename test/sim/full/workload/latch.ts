/** Latches: each arrival counts once, and a latch opens with the last of them. */
import { decodeGate, roundKeys } from '../../../../recipes/barriers/latch-record.ts';
import { latchPrefix } from '../../../../recipes/names.ts';
import type { RecipeSession } from '../../../../recipes/session.ts';
import { applyChanges, type Entry } from '../../../lin/store.ts';
import { hold } from '../../engine/violation.ts';
import type { CommitLog } from '../commit-log.ts';
import { inSessions } from './sessions.ts';
import type { ClientContext, Workload } from './workload.ts';

const NAME = 'boot';
const COUNT = 3;

export class LatchWorkload implements Workload {
  #passed = 0;

  async run(client: ClientContext): Promise<void> {
    await inSessions(client, async (session) => {
      while (!client.isEnding() && session.state !== 'lost') await this.#turn(client, session);
    });
  }

  check(log: CommitLog): void {
    const root = latchPrefix(NAME);
    const entries = new Map<string, Entry>();
    let opened = 0;
    for (const { revision, changes } of log.commits) {
      applyChanges(entries, changes);
      const gate = changes.find(({ key }) => key === `${root}gate`)?.entry;
      if (gate === undefined) continue;
      const next = decodeGate({ value: Buffer.from(gate.value) });
      if (next.opened === opened) continue;
      opened = next.opened;
      const { id } = roundKeys(root, opened);
      const arrived = [...entries.keys()].filter((key) => key.startsWith(id)).length;
      const what = () => `opened at revision ${revision} with ${arrived} of ${COUNT} arrivals`;
      hold(arrived === COUNT, 48, what);
    }
    hold(opened > 0 || this.#passed === 0, 48, () => 'somebody passed, and it never opened');
  }

  async #turn(client: ClientContext, session: RecipeSession): Promise<void> {
    const { knobs, choose, ending, pause } = client;
    const latch = session.latch(NAME, { count: COUNT, recheck: 2_000 });
    const id = `${choose.below(COUNT + 1)}`;
    const { open, arrived } = await latch.arrive(id, { signal: ending });
    hold(open || arrived < COUNT, 48, () => `${arrived} arrived, and it is closed`);
    await latch.wait({ timeout: 5_000, signal: ending });
    this.#passed += 1;
    await pause(knobs.meanPauseMs);
    if (choose.below(3) === 0) await latch.reset();
  }
}
