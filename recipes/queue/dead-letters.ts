/** Jobs that ran out of attempts: look at them, run them again, or drop them. */

import type { Client } from '../../sdk/client.ts';
import { type Codec, decodeWith } from '../../sdk/codec.ts';
import { invalidArgument } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import type { CallOptions } from '../../sdk/options.ts';
import { compare, type Operation, op } from '../../sdk/txn.ts';
import { checkFunction, checkOptions, timeLimits } from '../common/option-checks.ts';
import { untilAnswered } from '../common/repeat.ts';
import type { QueueKeys } from '../names.ts';
import { checkCall, checkId } from './checks.ts';
import { childEnds } from './child-ends.ts';
import { arrival } from './job-places.ts';
import { readDeadState } from './job-record.ts';
import { passOn } from './pass-on.ts';

export type DeadLetter<T> = {
  readonly id: string;
  /** Decoded at each look. @throws ConclaveError CODEC when the payload cannot be read */
  readonly data: T;
  readonly attempts: number;
  /** Why it is here. */
  readonly reason: string;
  /** What the last failed attempt said. */
  readonly lastError?: string;
  readonly pushedAt: Date;
  readonly deadAt: Date;
};

export type DeadLetterPage = CallOptions & {
  /** 1 to 100. @default 100 */
  readonly limit?: number;
  /** Continue after this id. @default from the oldest */
  readonly after?: string;
};

/** One dead letter by its id, or all those that match. */
export type DeadLetterFilter<T> = string | ((letter: DeadLetter<T>) => boolean);

const pageSize = 100;

export class DeadLetters<T> {
  readonly #client: Client;
  readonly #keys: QueueKeys;
  readonly #codec: Codec<T>;

  constructor(client: Client, keys: QueueKeys, codec: Codec<T>) {
    this.#client = client;
    this.#keys = keys;
    this.#codec = codec;
  }

  /** Oldest job first. Two exchanges a page. @throws ConclaveError INVALID_ARGUMENT */
  async list(options: DeadLetterPage = {}): Promise<readonly DeadLetter<T>[]> {
    checkOptions<DeadLetterPage>(options, { ...timeLimits, limit: true, after: true });
    const { limit = pageSize, after, ...call } = options;
    if (!(Number.isInteger(limit) && limit >= 1 && limit <= pageSize)) {
      throw invalidArgument('limit', limit, `a whole number from 1 to ${pageSize}`);
    }
    const { letters } = await this.#page(limit, after, call);
    return letters.map(({ letter }) => letter);
  }

  /**
   * Makes dead letters ready again, with all attempts ahead of them. Fenced: a letter that somebody
   * else replayed or dropped meanwhile is left alone.
   *
   * @returns how many were replayed
   */
  replay(which: DeadLetterFilter<T>, options: CallOptions = {}): Promise<number> {
    return this.#forEach(which, options, (entry, id) => {
      const { reason: _reason, deadMs: _deadMs, ...state } = readDeadState(entry);
      return [arrival(this.#client.kv, this.#keys, id, { ...state, attempts: 0 })];
    });
  }

  /**
   * Removes dead letters and their payloads for good. A parent that has waited for a replay becomes a
   * dead letter itself.
   *
   * @returns how many
   */
  discard(which: DeadLetterFilter<T>, options: CallOptions = {}): Promise<number> {
    return this.#forEach(which, options, (entry, id) => {
      const { parent, reason } = readDeadState(entry);
      const outcome = { status: 'dead', reason } as const;
      return [
        op.delete(this.#keys.job + id),
        op.delete({ prefix: `${this.#keys.child}${id}/` }),
        ...(parent === undefined ? [] : childEnds(this.#client.kv, parent, id, outcome, true)),
      ];
    });
  }

  async #forEach(
    which: DeadLetterFilter<T>,
    options: CallOptions,
    operations: (entry: KeyValue, id: string) => Operation[],
  ): Promise<number> {
    checkCall(options);
    if (typeof which === 'string') {
      checkId(which);
      const entry = await this.#client.kv.get(this.#keys.dead + which, options);
      return entry && (await this.#end(entry, operations(entry, which), options)) ? 1 : 0;
    }
    checkFunction(which, 'which', 'an id, or a function that says whether a dead letter is meant');
    let count = 0;
    for (let after: string | undefined; ; ) {
      const page = await this.#page(pageSize, after, options);
      for (const { entry, letter } of page.letters) {
        if (!which(letter)) continue;
        if (await this.#end(entry, operations(entry, letter.id), options)) count += 1;
      }
      if (page.last === undefined) return count;
      after = page.last;
    }
  }

  /** Removes the entry and does the rest, if it is still as it was read. */
  async #end(entry: KeyValue, operations: Operation[], options: CallOptions): Promise<boolean> {
    const txn = this.#client.kv
      .txn()
      .if(compare.modRevision(entry.key, '==', entry.modRevision))
      .then(op.delete(entry.key), ...operations);
    let repeated = false;
    const result = await untilAnswered(
      this.#client,
      (attempt) => {
        repeated = attempt > 0;
        return txn.commit(options);
      },
      options.signal,
    );
    // A repetition that finds it gone is taken for the attempt whose answer was lost.
    if (!result.succeeded && !repeated) return false;
    await passOn(
      this.#client,
      { keys: this.#keys, state: readDeadState(entry) },
      [],
      options.signal,
    );
    return true;
  }

  /** `last` is where the next page starts after; undefined when this one is empty. */
  async #page(limit: number, after: string | undefined, options: CallOptions) {
    const { kv } = this.#client;
    const { dead, job } = this.#keys;
    const codec = this.#codec;
    const range =
      after === undefined
        ? { prefix: dead }
        : { from: `${dead}${after}\0`, to: `${dead.slice(0, -1)}0` };
    const { kvs } = await kv.list(range, { ...options, limit, uncounted: true });
    if (kvs.length === 0) return { letters: [], last: undefined };
    const ids = kvs.map((entry) => entry.key.slice(dead.length));
    const { responses } = await kv
      .txn()
      .then(...ids.map((id) => op.get(job + id)))
      .commit(options);
    const letters = kvs.flatMap((entry, index) => {
      const id = ids[index];
      const payload = responses[index];
      if (id === undefined || !payload) return [];
      const state = readDeadState(entry);
      const letter: DeadLetter<T> = {
        id,
        get data() {
          return decodeWith(codec, payload.value, payload.key);
        },
        attempts: state.attempts,
        reason: state.reason,
        pushedAt: new Date(state.pushedMs),
        deadAt: new Date(state.deadMs),
        ...(state.error === undefined ? {} : { lastError: state.error }),
      };
      return [{ entry, letter }];
    });
    return { letters, last: ids.at(-1) };
  }
}
