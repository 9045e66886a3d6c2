/** A work queue: nothing acknowledged is lost, and what is completed is completed once. */
import type { RecipeSession } from '../../../../recipes/session.ts';
import { isConclaveError } from '../../../../sdk/errors.ts';
import type { Operation, Outcome } from '../../../lin/history.ts';
import { checkQueue, type QueueAction } from '../../../lin/recipes.ts';
import { hold } from '../../engine/violation.ts';
import type { CommitLog } from '../commit-log.ts';
import { inSessions } from './sessions.ts';
import { type ClientContext, finalEntries, type Workload } from './workload.ts';

export class QueueWorkload implements Workload {
  readonly #operations: Operation<QueueAction, true>[] = [];
  #items = 0;

  async run(client: ClientContext): Promise<void> {
    const pushes = client.choose.below(2) === 0;
    await inSessions(client, (session) =>
      pushes ? this.#push(client, session) : this.#work(client, session),
    );
  }

  check(log: CommitLog): void {
    const remaining = [...finalEntries(log)].flatMap(([key, { value }]) =>
      key.includes('result') ? [] : (value.match(/item \d+/) ?? []),
    );
    const [wrong] = checkQueue(this.#operations, remaining);
    hold(wrong === undefined, 16, () => `${wrong}`);
  }

  async #push(client: ClientContext, session: RecipeSession): Promise<void> {
    const queue = session.queue<string>('work');
    while (!client.isEnding() && session.state !== 'lost') {
      this.#items += 1;
      const item = `item ${this.#items}`;
      await this.#record(client, { kind: 'push', item }, () => queue.push(item));
      await client.pause(client.knobs.meanPauseMs);
    }
  }

  async #work(client: ClientContext, session: RecipeSession): Promise<void> {
    const consumer = session.consumer<string>('work', { visibility: 20_000, maxAttempts: 1_000 });
    try {
      while (!client.isEnding() && session.state !== 'lost') {
        await consumer.sweep();
        const invoked = client.now();
        const claim = await consumer.claim();
        if (claim !== null) {
          const item = claim.data;
          this.#add(client, { kind: 'claim', item }, invoked, { kind: 'ok', answer: true });
          await client.pause(client.knobs.meanPauseMs);
          await this.#record(client, { kind: 'complete', item }, () => claim.ack());
        }
        await client.pause(client.knobs.meanPauseMs);
      }
    } finally {
      await consumer.close();
    }
  }

  async #record(
    client: ClientContext,
    action: QueueAction,
    act: () => Promise<unknown>,
  ): Promise<void> {
    const at = this.#operations.length;
    const invoked = client.now();
    // Until it is answered, or if it never is, it may have taken effect.
    this.#add(client, action, invoked, { kind: 'unknown', reason: 'still under way' });
    const end = (outcome: Outcome<true>) => {
      const begun = this.#operations[at];
      if (begun !== undefined) {
        this.#operations[at] = { ...begun, returned: client.now(), outcome };
      }
    };
    try {
      await act();
      end({ kind: 'ok', answer: true });
    } catch (error) {
      if (!isConclaveError(error)) throw error;
      const reason = `${error.code}: ${error.message}`;
      end(error.outcome === 'unknown' ? { kind: 'unknown', reason } : { kind: 'fail', reason });
    }
  }

  #add(client: ClientContext, action: QueueAction, invoked: number, outcome: Outcome<true>): void {
    this.#operations.push({
      id: this.#operations.length,
      client: client.name,
      action,
      invoked,
      returned: client.now(),
      outcome,
    });
  }
}
