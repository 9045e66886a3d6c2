/**
 * Work queues: nothing acknowledged is lost, what is completed is completed once, every job is in one
 * place at every revision, and what is left when faults end is worked off.
 */
import { queueKeys } from '../../../../recipes/names.ts';
import type { QueueLimits } from '../../../../recipes/queue/queue-limits.ts';
import type { RecipeSession } from '../../../../recipes/session.ts';
import { checkQueue } from '../../../lin/recipes.ts';
import { payloadsLeft, QueueSpace, waitsForNobody } from '../../../lin/recipes-queue.ts';
import { SECOND } from '../../engine/engine.ts';
import { hold } from '../../engine/violation.ts';
import type { CommitLog } from '../commit-log.ts';
import { isItem, QueueRecord } from './queue-record.ts';
import { consume, push, queueNames, slotMs, work } from './queue-work.ts';
import { ignoreRefusal, inSessions, untilFinished } from './sessions.ts';
import { type ClientContext, finalEntries, type Workload } from './workload.ts';

/** Workers have so long after faults end, of which the leases of dead ones may take a third. */
const DRAIN_US = 90 * SECOND;
const roles = [push, consume, work] as const;

export class QueueWorkload implements Workload {
  readonly #record = new QueueRecord();
  #limits: QueueLimits | undefined;

  async run(client: ClientContext): Promise<void> {
    const { choose } = client;
    this.#limits ??= {
      groupConcurrency: 1 + choose.below(2),
      ...(choose.below(2) === 0 ? {} : { concurrency: 3 }),
    };
    const limits = this.#limits;
    const role = roles[choose.below(3)] ?? push;
    const part = (session: RecipeSession) => ({ client, session, record: this.#record, limits });
    await inSessions(client, (session) =>
      role(part(session), async () => client.isEnding() || session.state === 'lost'),
    );
    if (role === push) return;
    const drain = new Drain(client);
    await untilFinished(
      client,
      (session) => role(part(session), () => drain.isOver(session)),
      () => drain.isEmpty,
    );
  }

  check(log: CommitLog): void {
    this.#checkSpaces(log);
    const entries = finalEntries(log);
    const remaining = queueNames
      .flatMap((name) => payloadsLeft(queueKeys(name), entries))
      .map((payload) => JSON.parse(payload) as string)
      .filter(isItem);
    const [wrong] = checkQueue(this.#record.operations, remaining);
    hold(wrong === undefined, 16, () => `${wrong}`);
    checkSlots(log);
  }

  #checkSpaces(log: CommitLog): void {
    const { concurrency, groupConcurrency = 1 } = this.#limits ?? {};
    const spaces = queueNames.map(
      (name) =>
        new QueueSpace(
          queueKeys(name),
          name === 'work' ? { concurrency, groupConcurrency } : { groupConcurrency: 1 },
        ),
    );
    for (const commit of log.commits) {
      for (const space of spaces) {
        const wrong = space.apply(commit);
        hold(wrong === undefined, 32, () => `${space.name} at ${commit.revision}: ${wrong}`);
      }
      const waits = waitsForNobody(spaces);
      hold(waits === undefined, 32, () => `revision ${commit.revision}: ${waits}`);
    }
  }
}

/** Working off what is left. */
class Drain {
  isEmpty = false;
  readonly #client: ClientContext;
  readonly #untilUs: number;

  constructor(client: ClientContext) {
    this.#client = client;
    this.#untilUs = client.now() + DRAIN_US;
  }

  /** Whether who works may stop; dead letters get another chance before. */
  async isOver(session: RecipeSession): Promise<boolean> {
    if (session.state === 'lost') return true;
    const left: string[] = [];
    try {
      for (const name of queueNames) {
        const { job } = queueKeys(name);
        const { kvs } = await session.client.kv.list({ prefix: job }, { keysOnly: true });
        left.push(...kvs.map(({ key }) => key));
        await session.queue(name).dead.replay(() => true);
      }
      this.isEmpty = left.length === 0;
    } catch (error) {
      ignoreRefusal(error);
    }
    hold(
      this.isEmpty || this.#client.now() < this.#untilUs,
      33,
      () => `${this.#client.name} works, and does not get ${left.join(', ')}`,
    );
    return this.isEmpty;
  }
}

/** Every slot of the schedule was pushed once, and none is left out. */
function checkSlots(log: CommitLog): void {
  let last: number | undefined;
  for (const { revision, changes } of log.commits) {
    for (const { key, entry } of changes) {
      if (entry === undefined || !key.startsWith(queueKeys('work').job)) continue;
      const [, slot] = /^"slot (\d+)"$/.exec(entry.value) ?? [];
      if (slot === undefined) continue;
      const at = Number(slot);
      const isNext = last === undefined || at === last + slotMs;
      hold(isNext, 34, () => `revision ${revision} pushes slot ${slot} after ${last}`);
      last = at;
    }
  }
}
