/**
 * Ids that no other client gets: each client takes blocks of them and hands them out by itself.
 *
 * A block is an addition to one number, so a lost answer gives no id twice. Ids rise within one
 * allocator; between clients only their blocks do. What a client has not handed out when it ends is
 * never used.
 */
import { invalidArgument, throwIfAborted } from '../../sdk/errors.ts';
import type { RecipeContext } from '../common/context.ts';
import { checkOptions, timeLimits } from '../common/option-checks.ts';
import { unlessAborted } from '../common/signals.ts';
import { type TimeLimit, withinTime } from '../common/time-limit.ts';
import { idsPrefix } from '../names.ts';
import { type AdditionOptions, Additions } from './additions.ts';
import { Tally } from './tally.ts';

export type IdOptions = Pick<AdditionOptions, 'retries'> & {
  /** Ids taken from the store at a time; clients may differ. @default 100 */
  readonly block?: number;
};

export class IdAllocator {
  readonly name: string;
  readonly #context: RecipeContext;
  readonly #additions: Additions;
  readonly #tally: Tally;
  readonly #block: bigint;
  #next = 1n;
  #last = 0n;
  #refilling: Promise<void> | undefined;

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(context: RecipeContext, name: string, options: IdOptions = {}) {
    checkOptions<IdOptions>(options, { block: true, retries: true });
    const { block = 100, retries } = options;
    if (!Number.isSafeInteger(block) || block < 1) {
      throw invalidArgument('block', block, 'a whole number, 1 or more');
    }
    const root = idsPrefix(name);
    this.name = name;
    this.#context = context;
    this.#additions = new Additions(context, root, retries === undefined ? {} : { retries });
    this.#tally = new Tally(context.session, `${root}sum/0`);
    this.#block = BigInt(block);
  }

  /**
   * The next id, 1n or more. No exchange while the block lasts; one for a new one, as `Counter.add`.
   *
   * @throws ConclaveError CONFLICT, ABORTED, TIMEOUT, SESSION_LOST, CODEC, INVALID_ARGUMENT
   */
  async next(options: TimeLimit = {}): Promise<bigint> {
    checkOptions<TimeLimit>(options, timeLimits);
    const { clock } = this.#context.session.client;
    const what = `Taking an id of '${this.name}'`;
    return withinTime(clock, options, what, (signal) => this.#take(signal));
  }

  async #take(signal: AbortSignal | undefined): Promise<bigint> {
    for (;;) {
      throwIfAborted(signal);
      this.#context.session.assertLive();
      if (this.#next <= this.#last) {
        const id = this.#next;
        this.#next += 1n;
        return id;
      }
      // All who wait share one refill, which goes on when one of them gives up.
      this.#refilling ??= this.#refill().finally(() => {
        this.#refilling = undefined;
      });
      await unlessAborted(this.#refilling, signal);
    }
  }

  async #refill(): Promise<void> {
    const subject = { recipe: 'ids', name: this.name } as const;
    const last = await this.#additions.add(this.#block, {}, subject, () => this.#tally);
    this.#next = last - this.#block + 1n;
    this.#last = last;
  }
}
