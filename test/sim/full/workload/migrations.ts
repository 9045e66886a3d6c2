/**
 * Migrations, one list after the other: a step that writes, one with effects, one that writes. Each
 * comes after the one before, writes take effect once, and what is done stays done. In every other list
 * the effects may not be repeated without somebody saying so.
 */
import type { Migration } from '../../../../recipes/election/migration-run.ts';
import type { RecipeSession } from '../../../../recipes/session.ts';
import { isConclaveError } from '../../../../sdk/errors.ts';
import { op } from '../../../../sdk/txn.ts';
import { hold } from '../../engine/violation.ts';
import type { CommitLog } from '../commit-log.ts';
import { ignoreRefusal, inSessions, untilFinished } from './sessions.ts';
import type { ClientContext, Workload } from './workload.ts';

const TARGET = 'moved/';
/** More would only add to what a run costs. */
const LISTS = 8;

type List = {
  readonly number: number;
  /** Tokens of the attempts at the effects that came to their end. */
  readonly ended: Set<bigint>;
  highest: bigint;
  isDone: boolean;
};

export class MigrationsWorkload implements Workload {
  readonly #lists: List[] = [];

  async run(client: ClientContext): Promise<void> {
    await inSessions(client, async (session) => {
      while (!client.isEnding() && session.state !== 'lost') {
        const list = this.#current();
        if (list === undefined) return;
        await this.#migrate(client, session, list).catch(ignoreRefusal);
        await client.pause(client.knobs.meanPauseMs);
      }
    });
    await untilFinished(
      client,
      async (session) => {
        const left = this.#lists.find(({ isDone }) => !isDone);
        if (left) await this.#migrate(client, session, left);
      },
      () => this.#lists.every(({ isDone }) => isDone),
    );
  }

  check(log: CommitLog): void {
    const values = new Map<string, string>();
    for (const { revision, changes } of log.commits) {
      for (const { key, entry } of changes) {
        if (!key.startsWith(TARGET)) continue;
        const next = values.get(key) === undefined ? 'first;' : 'first;last;';
        const value = entry?.value;
        hold(value === next, 43, () => `revision ${revision} makes ${key} '${value}'`);
        values.set(key, value);
      }
    }
    for (const { number, isDone } of this.#lists) {
      const value = values.get(`${TARGET}${number}`);
      hold(!isDone || value === 'first;last;', 43, () => `list ${number} is done, with '${value}'`);
    }
  }

  /** The next list begins when the one before is done. */
  #current(): List | undefined {
    const last = this.#lists.at(-1);
    if (last && !last.isDone) return last;
    if (this.#lists.length === LISTS) return undefined;
    const next = {
      number: this.#lists.length,
      ended: new Set<bigint>(),
      highest: 0n,
      isDone: false,
    };
    this.#lists.push(next);
    return next;
  }

  async #migrate(client: ClientContext, session: RecipeSession, list: List): Promise<void> {
    const { choose, knobs } = client;
    const recheck = choose.below(2) === 0 ? 600_000 : 1_000;
    const steps = this.#stepsOf(client, list);
    const migrations = session.migrations(`list/${list.number}`, steps, { recheck });
    const patience = choose.below(4) === 0 && !client.isEnding();
    const timeout = patience ? { timeout: 1 + choose.exponential(4 * knobs.meanPauseMs) } : {};
    try {
      await migrations.run(timeout);
      hold(list.ended.size > 0, 43, () => `list ${list.number} is done, its effects are not`);
      list.isDone = true;
    } catch (error) {
      if (!isConclaveError(error, 'FAILED_PRECONDITION')) throw error;
      await migrations.resolve('effects', 'again');
    }
  }

  #stepsOf({ pause, knobs, choose }: ClientContext, list: List): readonly Migration[] {
    const key = `${TARGET}${list.number}`;
    const append = (id: string): Migration => ({
      id,
      writes: async ({ client }) => {
        const before = await client.kv.getString(key);
        return [op.put(key, `${before ?? ''}${id};`)];
      },
    });
    const effects: Migration = {
      id: 'effects',
      idempotent: list.number % 2 === 0,
      run: async ({ token, client, signal }) => {
        // A former runner that was frozen may come here late; the token tells.
        if (token < list.highest) return;
        list.highest = token;
        const before = await client.kv.getString(key, { signal });
        hold(before === 'first;', 43, () => `effects of list ${list.number} find '${before}'`);
        await pause(choose.below(2) * knobs.meanPauseMs);
        list.ended.add(token);
      },
    };
    return [append('first'), effects, append('last')];
  }
}
