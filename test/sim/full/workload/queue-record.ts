/** What clients of a queue did, as its check takes it. */
import { isConclaveError } from '../../../../sdk/errors.ts';
import type { Operation, Outcome } from '../../../lin/history.ts';
import type { QueueAction } from '../../../lin/recipes.ts';
import type { ClientContext } from './workload.ts';

/** Jobs that are never dropped on purpose: none of them may be lost. */
export const isItem = (payload: string): boolean => payload.startsWith('item ');

export class QueueRecord {
  readonly operations: Operation<QueueAction, true>[] = [];
  /** Ids of jobs that may be dropped on purpose. */
  readonly extras: string[] = [];
  #items = 0;

  nextItem(): string {
    this.#items += 1;
    return `item ${this.#items}`;
  }

  nextExtra(): string {
    this.#items += 1;
    return `extra ${this.#items}`;
  }

  /** Does it, and records what becomes of it for each of these payloads. */
  async during<T>(
    client: ClientContext,
    kind: QueueAction['kind'],
    payloads: readonly string[],
    act: () => Promise<T>,
  ): Promise<T> {
    const ends = payloads.filter(isItem).map((item) => this.begin(client, { kind, item }));
    try {
      const result = await act();
      for (const end of ends) end({ kind: 'ok', answer: true });
      return result;
    } catch (error) {
      if (!isConclaveError(error)) throw error;
      const reason = `${error.code}: ${error.message}`;
      const outcome: Outcome<true> =
        error.outcome === 'unknown' ? { kind: 'unknown', reason } : { kind: 'fail', reason };
      for (const end of ends) end(outcome);
      throw error;
    }
  }

  /** Until it is answered, or if it never is, it may have taken effect. */
  begin(client: ClientContext, action: QueueAction): (outcome: Outcome<true>) => void {
    const at = this.operations.length;
    const outcome = { kind: 'unknown', reason: 'still under way' } as const;
    const begun = { id: at, client: client.name, action, invoked: client.now() };
    this.operations.push({ ...begun, returned: begun.invoked, outcome });
    return (ended) => {
      this.operations[at] = { ...begun, returned: client.now(), outcome: ended };
    };
  }

  /** An item was handed out, at this time or after it. */
  claimed(client: ClientContext, item: string, since: number): void {
    if (!isItem(item)) return;
    this.operations.push({
      id: this.operations.length,
      client: client.name,
      action: { kind: 'claim', item },
      invoked: since,
      returned: client.now(),
      outcome: { kind: 'ok', answer: true },
    });
  }
}
