/** A value that many change: no change is lost or made twice, and reads see what was answered. */

import { valuePrefix } from '../../../../recipes/names.ts';
import type { RecipeSession } from '../../../../recipes/session.ts';
import type { Versioned } from '../../../../recipes/values/shared-value.ts';
import { isConclaveError } from '../../../../sdk/errors.ts';
import { type Content, checkValue, type ValueChange } from '../../../lin/recipes-values.ts';
import { hold } from '../../engine/violation.ts';
import type { CommitLog } from '../commit-log.ts';
import { ignoreRefusal, inSessions } from './sessions.ts';
import type { ClientContext, Workload } from './workload.ts';

const KEY = `${valuePrefix('settings')}current`;

export class SharedValueWorkload implements Workload {
  readonly #changes: ValueChange[] = [];
  readonly #reads: Versioned<Content>[] = [];
  /** The newest revision of an answer. */
  #answered = 0n;

  async run(client: ClientContext): Promise<void> {
    await inSessions(client, async (session) => {
      while (!client.isEnding() && session.state !== 'lost') {
        await this.#turn(client, session).catch(ignoreRefusal);
        await client.pause(client.knobs.meanPauseMs);
      }
    });
  }

  check(log: CommitLog): void {
    const [wrong] = checkValue(log.commits, KEY, this.#changes);
    hold(wrong === undefined, 31, () => `${wrong}`);
    for (const { value, revision } of this.#reads) {
      const written = log.commits[Number(revision) - 2]?.changes.find(({ key }) => key === KEY);
      const { by } = JSON.parse(written?.entry?.value ?? '{}') as Partial<Content>;
      hold(by === value.by, 31, () => `${value.by} was read at ${revision}, where ${by} is`);
    }
  }

  async #turn({ choose }: ClientContext, session: RecipeSession): Promise<void> {
    const shared = session.value<Content>('settings');
    switch (choose.below(8)) {
      case 0:
        // As an operator with too much courage would: conditions may come true a second time.
        await session.client.kv.delete(KEY);
        return;
      case 1:
      case 2: {
        await this.#read(() => shared.get());
        return;
      }
      case 3:
      case 4: {
        const before = await this.#read(() => shared.get());
        await this.#change(async (by) => {
          const next = { changes: (before?.value.changes ?? 0) + 1, by };
          return shared.compareAndSet(before?.revision ?? 0n, next);
        });
        return;
      }
      default:
        await this.#change((by) =>
          shared.update((value) => ({ changes: (value?.changes ?? 0) + 1, by })),
        );
    }
  }

  async #read(read: () => Promise<Versioned<Content> | null>): Promise<Versioned<Content> | null> {
    const answered = this.#answered;
    const found = await read();
    if (found === null) return null;
    this.#reads.push(found);
    hold(
      found.revision >= answered,
      31,
      () => `${found.revision} was read after ${answered} was answered`,
    );
    return found;
  }

  async #change(change: (by: string) => Promise<Versioned<Content> | null>): Promise<void> {
    const at = this.#changes.length;
    const by = `change ${at}`;
    this.#changes.push({ by, outcome: { kind: 'unknown', reason: 'still under way' } });
    const end = (outcome: ValueChange['outcome']) => {
      this.#changes[at] = { by, outcome };
    };
    try {
      const made = await change(by);
      if (made === null) end({ kind: 'fail', reason: 'another revision' });
      else {
        end({ kind: 'ok', answer: { revision: Number(made.revision) } });
        if (made.revision > this.#answered) this.#answered = made.revision;
      }
    } catch (error) {
      if (isConclaveError(error) && error.outcome === 'not-applied') {
        end({ kind: 'fail', reason: error.message });
      }
      throw error;
    }
  }
}
