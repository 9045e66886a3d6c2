/**
 * Elections, first come, first served: terms rise, whoever observes sees leaders in the order of their
 * terms, and by the log a leader that writes under its guard is the first of those that stand.
 */
import { electionPrefix } from '../../../../recipes/names.ts';
import type { RecipeSession } from '../../../../recipes/session.ts';
import { op } from '../../../../sdk/txn.ts';
import { hold } from '../../engine/violation.ts';
import type { CommitLog } from '../commit-log.ts';
import { ignoreRefusal, inSessions } from './sessions.ts';
import type { ClientContext, Workload } from './workload.ts';

const PREFIX = electionPrefix('chair');
const USE = 'used/chair';

export class ElectionWorkload implements Workload {
  /** By term: who led. */
  readonly #leaders = new Map<bigint, string>();

  async run(client: ClientContext): Promise<void> {
    const observes = client.choose.below(3) === 0;
    await inSessions(client, (session) =>
      observes ? this.#observe(client, session) : this.#lead(client, session),
    );
  }

  check(log: CommitLog): void {
    const candidates = new Map<string, number>();
    for (const { revision, changes } of log.commits) {
      for (const { key, entry } of changes) {
        if (key === USE) {
          const first = Math.min(...candidates.values());
          const inTerm = entry?.value === `${first}`;
          hold(inTerm, 41, () => `revision ${revision} is of term ${entry?.value}, not ${first}`);
        }
        if (!key.startsWith(PREFIX)) continue;
        if (entry) candidates.set(key, entry.createRevision);
        else candidates.delete(key);
      }
    }
  }

  async #lead(client: ClientContext, session: RecipeSession): Promise<void> {
    const { name, knobs, pause, choose } = client;
    const election = session.election<string>('chair');
    const timeout = choose.below(3) === 0 ? { timeout: 4 * knobs.meanPauseMs } : {};
    // A client that is to end waits on: it must be its turn at some time.
    const leadership = await election.campaign({ value: name, ...timeout });
    this.#saw(leadership.term, name);
    await pause(knobs.meanPauseMs);
    if (leadership.isLeader) {
      const { kv } = session.client;
      const use = leadership.guard(kv.txn().then(op.put(USE, `${leadership.term}`)));
      await use.commit().catch(ignoreRefusal);
      await leadership.proclaim(name).catch(ignoreRefusal);
    }
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
