/**
 * Elections by priority: candidates that wait, give up, hand over, are asked to make way, lose their
 * keys by hand. Judged by the log: who was made leader, by whom, and what leaders wrote in their terms;
 * that nobody waits for ever, by the end of the run.
 */
import type { Leadership } from '../../../../recipes/election/leadership.ts';
import { electionPrefix } from '../../../../recipes/names.ts';
import type { RecipeSession } from '../../../../recipes/session.ts';
import { op } from '../../../../sdk/txn.ts';
import type { Commit, Entry } from '../../../lin/store.ts';
import { hold } from '../../engine/violation.ts';
import type { CommitLog } from '../commit-log.ts';
import { ignoreRefusal, inSessions } from './sessions.ts';
import type { ClientContext, Workload } from './workload.ts';

const NAME = 'throne';
const PREFIX = electionPrefix(NAME);
const LEADER = `${PREFIX}leader`;
const REQUESTS = `${PREFIX}request/`;
const USE = 'used/throne';

/** What a client was told. */
type Grant = { readonly name: string; readonly key: string; readonly term: number };
type HandOver = { readonly name: string; readonly term: number; readonly to: string };

export class PriorityElectionWorkload implements Workload {
  readonly #grants: Grant[] = [];
  readonly #handOvers: HandOver[] = [];

  async run(client: ClientContext): Promise<void> {
    const observes = client.choose.below(4) === 0;
    await inSessions(client, (session) =>
      observes ? this.#observe(client, session) : this.#stand(client, session),
    );
  }

  check(log: CommitLog): void {
    const throne = new Throne(log.commits);
    for (const { name, key, term } of this.#grants) {
      const named = throne.leaders.get(term);
      hold(named === key, 40, () => `${name} leads by ${key} in term ${term}, which is ${named}'s`);
    }
    for (const { name, term, to } of this.#handOvers) {
      const heir = throne.heirs.get(term);
      hold(heir === to, 42, () => `${name} handed term ${term} to ${to}, but ${heir} came next`);
    }
  }

  async #stand(client: ClientContext, session: RecipeSession): Promise<void> {
    const { choose } = client;
    const recheck = choose.below(2) === 0 ? 600_000 : 1_000;
    const tasks = Array.from({ length: 1 + choose.below(2) }, async () => {
      while (!client.isEnding() && session.state !== 'lost') {
        await this.#candidacy(client, session, recheck).catch(ignoreRefusal);
        await client.pause(client.knobs.meanPauseMs);
      }
    });
    await Promise.all(tasks);
  }

  async #candidacy(client: ClientContext, session: RecipeSession, recheck: number): Promise<void> {
    const { choose, knobs, name, pause } = client;
    const election = session.election<string>(NAME, {
      priority: choose.below(3),
      preferred: choose.below(3) === 0,
      preemptAfter: 4 * knobs.meanPauseMs,
      vacancyStep: 50,
      recheck,
    });
    const how = choose.below(8);
    if (how === 0) await this.#removeOne(client, session);
    if (how < 3) {
      await election.lead(
        async ({ term, key, signal }) => {
          this.#grants.push({ name, key, term: Number(term) });
          for (let steps = choose.below(8); steps > 0 && !signal.aborted; steps -= 1) {
            await pause(knobs.meanPauseMs);
          }
        },
        { value: name, signal: client.ending, requeue: false },
      );
      return;
    }
    const timeout = how < 5 ? { timeout: 1 + choose.exponential(4 * knobs.meanPauseMs) } : {};
    // A client that is to end waits on: it must be its turn at some time.
    const leadership = await election.campaign({ value: name, ...timeout });
    this.#grants.push({ name, key: leadership.key, term: Number(leadership.term) });
    await pause(knobs.meanPauseMs);
    await this.#use(session, leadership).catch(ignoreRefusal);
    if (choose.below(3) === 0) await leadership.proclaim(`${name} still`).catch(ignoreRefusal);
    await pause(knobs.meanPauseMs);
    await this.#use(session, leadership).catch(ignoreRefusal);
    if (choose.below(2) === 0) await this.#handOver(client, session, leadership);
    await leadership.resign();
  }

  async #handOver(
    { name, choose }: ClientContext,
    session: RecipeSession,
    leadership: Leadership<string>,
  ): Promise<void> {
    const candidates = await session.election<string>(NAME, { priority: 0 }).candidates();
    const others = candidates.filter(({ key }) => key !== leadership.key);
    const to = others[choose.below(Math.max(1, others.length))];
    if (to === undefined) return;
    await leadership.transfer(to);
    this.#handOvers.push({ name, term: Number(leadership.term), to: to.key });
  }

  /** A write that takes effect only in the term. */
  async #use({ client }: RecipeSession, leadership: Leadership<string>): Promise<void> {
    if (!leadership.isLeader) return;
    await leadership.guard(client.kv.txn().then(op.put(USE, `${leadership.term}`))).commit();
  }

  /** As an operator with too much courage would. */
  async #removeOne({ choose }: ClientContext, { client }: RecipeSession): Promise<void> {
    const { kvs } = await client.kv.list({ prefix: PREFIX }, { keysOnly: true });
    const victim = kvs[choose.below(Math.max(1, kvs.length))];
    if (victim !== undefined) await client.kv.delete(victim.key);
  }

  async #observe({ name, ending }: ClientContext, session: RecipeSession): Promise<void> {
    let before = 0n;
    const signal = AbortSignal.any([session.signal, ending]);
    for await (const leader of session.election<string>(NAME).observe({ signal })) {
      if (leader === null) continue;
      const { term, key } = leader;
      hold(term >= before, 17, () => `${name} saw the leader of term ${term} after ${before}`);
      before = term;
      this.#grants.push({ name, key, term: Number(term) });
    }
  }
}

/** The leader key through the log. */
class Throne {
  /** By term: the key of the candidate that led. */
  readonly leaders = new Map<number, string>();
  /** By term: the key of the candidate that it was rewritten for. */
  readonly heirs = new Map<number, string>();
  readonly #keys = new Map<string, Entry>();

  constructor(commits: readonly Commit[]) {
    for (const commit of commits) {
      this.#judge(commit);
      for (const { key, entry } of commit.changes) {
        if (!key.startsWith(PREFIX)) continue;
        if (entry) this.#keys.set(key, entry);
        else this.#keys.delete(key);
      }
    }
  }

  #judge({ revision, changes }: Commit): void {
    const changed = new Map(changes.map(({ key, entry }) => [key, entry]));
    const before = this.#keys.get(LEADER);
    const use = changed.get(USE);
    if (use) {
      const inTerm = Number(use.value) === before?.modRevision;
      hold(inTerm, 41, () => `revision ${revision} was written for term ${use.value}`);
    }
    const named = changed.get(LEADER);
    if (named === undefined) return;
    const key = PREFIX + named.value;
    const told = () => `revision ${revision} makes ${key} the leader`;
    const candidate = changed.has(key) ? changed.get(key) : this.#keys.get(key);
    hold(candidate !== undefined, 40, () => `${told()}, which does not stand`);
    hold(candidate.lease === named.lease, 40, () => `${told()}, on another lease`);
    if (before === undefined) {
      const others = [...this.#keys.keys()].filter((other) => !other.startsWith(REQUESTS));
      const isFirst = candidate.createRevision === revision;
      hold(!isFirst || others.length === 0, 40, () => `${told()}, which overtakes ${others}`);
    } else {
      const former = PREFIX + before.value;
      // Its key may have been removed by hand before it handed over.
      const stays = changed.has(former) ? changed.get(former) : this.#keys.get(former);
      hold(stays === undefined, 40, () => `${told()}, although ${former} has not left`);
      this.heirs.set(before.modRevision, key);
    }
    this.leaders.set(revision, key);
  }
}
