/**
 * A counter for many writers at a time: spread over shards, each a number of its own. Additions meet
 * rarely; only reading the sum costs a listing. Each addition counts exactly once, as with a counter.
 */
import { invalidArgument } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import type { RecipeContext } from '../common/context.ts';
import { checkOptions } from '../common/option-checks.ts';
import { viewPrefix } from '../common/prefix-view.ts';
import { observeShared } from '../common/streams.ts';
import type { View } from '../common/view.ts';
import { adderPrefix } from '../names.ts';
import { type AdditionOptions, Additions, type AddOptions, knownAdditions } from './additions.ts';
import { readIn } from './read-in.ts';
import { readNumber, Tally } from './tally.ts';

export type AdderOptions = AdditionOptions & {
  /** How many keys this client spreads over; clients may differ. From 1 to 1024. @default 16 */
  readonly shards?: number;
};

export class Adder {
  readonly name: string;
  /** The sum, kept current while anybody listens. */
  readonly sum$: View<bigint>;
  readonly #context: RecipeContext;
  readonly #additions: Additions;
  readonly #prefix: string;
  readonly #shards: readonly Tally[];

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(context: RecipeContext, name: string, options: AdderOptions = {}) {
    checkOptions<AdderOptions>(options, { ...knownAdditions, shards: true });
    const { shards = 16 } = options;
    if (!Number.isSafeInteger(shards) || shards < 1 || shards > 1024) {
      throw invalidArgument('shards', shards, 'a whole number from 1 to 1024');
    }
    const root = adderPrefix(name);
    const prefix = `${root}sum/`;
    const { session } = context;
    this.name = name;
    this.#context = context;
    this.#additions = new Additions(context, root, options);
    this.#prefix = prefix;
    this.#shards = Array.from({ length: shards }, (_, shard) => new Tally(session, prefix + shard));
    this.sum$ = observeShared(async function* (signal) {
      let last: bigint | undefined;
      for await (const { entries } of viewPrefix(session.client, prefix, { signal })) {
        const sum = total(entries.values());
        if (sum !== last) yield sum;
        last = sum;
      }
    });
  }

  /**
   * Adds to one of the shards, another after each conflict. Exchanges as with a counter.
   *
   * @throws ConclaveError CONFLICT, MISMATCH, ABORTED, SESSION_LOST, INVALID_ARGUMENT, CODEC
   */
  async add(delta = 1n, options: AddOptions = {}): Promise<void> {
    await this.#additions.add(delta, options, { recipe: 'adder', name: this.name }, () =>
      this.#anyShard(),
    );
  }

  /**
   * The sum at one revision. One exchange.
   *
   * @throws ConclaveError SESSION_LOST, CLOSED, CODEC, and what the store answers
   */
  async sum(): Promise<bigint> {
    const prefix = this.#prefix;
    const { kvs } = await readIn(this.#context.session, (kv, options) =>
      kv.list({ prefix }, options),
    );
    return total(kvs);
  }

  #anyShard(): Tally {
    const { random } = this.#context.session.client;
    return this.#shards[Math.floor(random() * this.#shards.length)] as Tally;
  }
}

function total(kvs: Iterable<KeyValue>): bigint {
  let sum = 0n;
  for (const kv of kvs) sum += readNumber(kv);
  return sum;
}
