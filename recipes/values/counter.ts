/**
 * A number that all clients add to; each addition counts exactly once, whatever answers get lost.
 *
 * Compare-and-swap with the present value in the refusal, so a conflict costs one exchange. Beside the
 * number each addition creates an op-record; a repetition finds it and does nothing.
 */
import type { RecipeContext } from '../common/context.ts';
import { checkOptions } from '../common/option-checks.ts';
import { viewPrefix } from '../common/prefix-view.ts';
import { observeShared } from '../common/streams.ts';
import type { View } from '../common/view.ts';
import { counterPrefix } from '../names.ts';
import { type AdditionOptions, Additions, type AddOptions, knownAdditions } from './additions.ts';
import { readIn } from './read-in.ts';
import { readNumber, Tally } from './tally.ts';

export class Counter {
  readonly name: string;
  /** The value, kept current while anybody listens. */
  readonly value$: View<bigint>;
  readonly #context: RecipeContext;
  readonly #additions: Additions;
  readonly #tally: Tally;

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(context: RecipeContext, name: string, options: AdditionOptions = {}) {
    checkOptions<AdditionOptions>(options, knownAdditions);
    const root = counterPrefix(name);
    const { session } = context;
    this.name = name;
    this.#context = context;
    this.#additions = new Additions(context, root, options);
    this.#tally = new Tally(session, `${root}sum/0`);
    this.value$ = observeShared(async function* (signal) {
      let last: bigint | undefined;
      for await (const { entries } of viewPrefix(session.client, `${root}sum/`, { signal })) {
        const found = entries.get(`${root}sum/0`);
        const value = found ? readNumber(found) : 0n;
        if (value !== last) yield value;
        last = value;
      }
    });
  }

  /**
   * Adds, and tells the value right after. One exchange, two the first time, one more for each time
   * that somebody else came first.
   *
   * @throws ConclaveError CONFLICT after too many conflicts, MISMATCH when the opId added something
   *   else before, ABORTED, SESSION_LOST, INVALID_ARGUMENT, CODEC
   */
  add(delta = 1n, options: AddOptions = {}): Promise<bigint> {
    return this.#additions.add(
      delta,
      options,
      { recipe: 'counter', name: this.name },
      () => this.#tally,
    );
  }

  /**
   * The value now; 0n before the first addition. One exchange.
   *
   * @throws ConclaveError SESSION_LOST, CLOSED, CODEC, and what the store answers
   */
  async get(): Promise<bigint> {
    const { key } = this.#tally;
    const found = await readIn(this.#context.session, (kv, options) => kv.get(key, options));
    return found ? readNumber(found) : 0n;
  }
}
