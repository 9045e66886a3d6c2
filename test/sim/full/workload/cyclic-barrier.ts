/** Cyclic barriers: a generation ends once, complete with all its parties there, or broken for all. */

import { BrokenBarrierError } from '../../../../recipes/barriers/broken.ts';
import { cyclicKeys, decodeRecord } from '../../../../recipes/barriers/cyclic-record.ts';
import { cyclicBarrierPrefix } from '../../../../recipes/names.ts';
import type { RecipeSession } from '../../../../recipes/session.ts';
import { isConclaveError } from '../../../../sdk/errors.ts';
import { applyChanges, type Entry } from '../../../lin/store.ts';
import { hold } from '../../engine/violation.ts';
import type { CommitLog } from '../commit-log.ts';
import { inSessions } from './sessions.ts';
import type { ClientContext, Workload } from './workload.ts';

const NAME = 'step';
const PARTIES = 2;

export class CyclicBarrierWorkload implements Workload {
  /** By generation: whose wait ended well, with their positions; and what the others were told. */
  readonly #passed = new Map<number, Map<number, string>>();
  readonly #broken = new Map<number, string>();
  /** Generations whose action was run. */
  readonly #acted = new Set<number>();

  async run(client: ClientContext): Promise<void> {
    await inSessions(client, async (session) => {
      while (!client.isEnding() && session.state !== 'lost') await this.#meet(client, session);
    });
  }

  check(log: CommitLog): void {
    for (const [generation, told] of this.#broken) {
      const who = [...(this.#passed.get(generation)?.values() ?? [])];
      hold(who.length === 0, 47, () => `${who} passed generation ${generation}, ${told}`);
    }
    const keys = cyclicKeys(cyclicBarrierPrefix(NAME));
    const entries = new Map<string, Entry>();
    let before = decodeRecord(undefined);
    for (const { revision, changes } of log.commits) {
      applyChanges(entries, changes);
      const written = changes.find(({ key }) => key === keys.record)?.entry;
      if (written === undefined) continue;
      const record = decodeRecord({ value: Buffer.from(written.value) });
      const generation = before?.generation ?? 0;
      const isComplete = record?.generation === generation + 1 && !record.past.includes(generation);
      if (isComplete && generation > 0) {
        const folder = keys.folder(generation);
        const there = [...entries.keys()].filter((key) => key.startsWith(folder)).length;
        const what = () => `${there} of ${PARTIES} parties are there at revision ${revision}`;
        hold(there === PARTIES && before?.broken === undefined, 47, what);
      }
      before = record;
    }
  }

  async #meet(client: ClientContext, session: RecipeSession): Promise<void> {
    const { name, knobs, choose, ending, pause } = client;
    const barrier = session.cyclicBarrier(NAME, {
      parties: PARTIES,
      recheck: 2_000,
      action: ({ generation }) => this.#act(name, generation),
    });
    const timeout = choose.below(4) === 3 ? choose.exponential(knobs.meanPauseMs) : 20_000;
    try {
      const { generation, position } = await barrier.wait({ timeout, signal: ending });
      const others = this.#passed.get(generation) ?? new Map<number, string>();
      this.#passed.set(generation, others);
      const other = others.get(position);
      hold(other === undefined, 47, () => `${other} and ${name} are both ${position} to arrive`);
      others.set(position, name);
      hold(others.size <= PARTIES, 47, () => `${others.size} passed generation ${generation}`);
      hold(this.#acted.has(generation), 47, () => `${name} passed before the action was run`);
    } catch (error) {
      if (!(error instanceof BrokenBarrierError)) throw error;
      if (!isConclaveError(error) || error.reason === 'unknown') return;
      this.#broken.set(error.generation, `${name} was told that it broke: ${error.reason}`);
      await pause(knobs.meanPauseMs);
      await barrier.reset();
    }
    await pause(knobs.meanPauseMs);
  }

  #act(name: string, generation: number): void {
    hold(!this.#acted.has(generation), 47, () => `${name} runs the action again`);
    this.#acted.add(generation);
  }
}
