/**
 * One value that all clients see and change by compare-and-set. The revision of its last write stands
 * for it: a value that was changed and changed back is not the same.
 *
 * A change whose answer was lost is resolved by its op-record, whoever wrote in between.
 */
import { type Codec, decodeWith, encodeWith, json } from '../../sdk/codec.ts';
import { aborted, invalidArgument, throwIfAborted } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { compare, op } from '../../sdk/txn.ts';
import type { RecipeContext } from '../common/context.ts';
import { checkCodec, checkFunction, checkOptions, timeLimits } from '../common/option-checks.ts';
import { viewPrefix } from '../common/prefix-view.ts';
import { untilAnswered } from '../common/repeat.ts';
import { linkedSignal, unlessAborted } from '../common/signals.ts';
import { observeShared } from '../common/streams.ts';
import { type TimeLimit, withinTime } from '../common/time-limit.ts';
import type { View } from '../common/view.ts';
import type { RecipeKind } from '../metrics.ts';
import { randomId, valuePrefix } from '../names.ts';
import { commitOnce } from './commit-once.ts';
import { type Contention, parseRetries, untilUncontended } from './contention.ts';
import { spentAtOnce, spentRecords } from './spent-records.ts';

export type ValueOptions<T> = Contention & {
  /** How the value is written. @default JSON */
  readonly codec?: Codec<T>;
};

export type Versioned<T> = {
  readonly value: T;
  /** The revision of the write that made it so; rises with every write. */
  readonly revision: bigint;
};

export type UpdateOptions = TimeLimit;

/** Which recipe the value belongs to, and where its keys are. */
export type ValuePlace = { readonly recipe: RecipeKind; readonly root: string };

type Attempt<T> =
  | { readonly set: Versioned<T> }
  /** What stands there instead. */
  | { readonly found: KeyValue | null };

export class SharedValue<T> {
  readonly name: string;
  /** The value, null while there is none; kept current while anybody listens. */
  readonly value$: View<Versioned<T> | null>;
  readonly #context: RecipeContext;
  readonly #codec: Codec<T>;
  readonly #retries: number;
  readonly #recipe: RecipeKind;
  readonly #root: string;
  readonly #key: string;

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(
    context: RecipeContext,
    name: string,
    options: ValueOptions<T> = {},
    place: ValuePlace = { recipe: 'value', root: valuePrefix(name) },
  ) {
    checkOptions<ValueOptions<T>>(options, { codec: true, retries: true });
    const { codec = json<T>() } = options;
    checkCodec(codec);
    this.name = name;
    this.#context = context;
    this.#codec = codec;
    this.#retries = parseRetries(options);
    this.#recipe = place.recipe;
    this.#root = place.root;
    const key = `${this.#root}current`;
    this.#key = key;
    const { client } = context.session;
    const prefix = this.#root;
    const decode = (kv: KeyValue | null) => this.#decode(kv);
    this.value$ = observeShared(async function* (signal) {
      let last: bigint | undefined;
      for await (const { entries, rewound } of viewPrefix(client, prefix, { signal })) {
        const current = entries.get(key) ?? null;
        const revision = current?.modRevision ?? 0n;
        if (revision !== last || rewound) yield decode(current);
        last = revision;
      }
    });
  }

  /** The value now. One exchange. @throws ConclaveError CODEC, SESSION_LOST */
  async get(): Promise<Versioned<T> | null> {
    return this.#decode(await this.#read());
  }

  /**
   * Sets the value if its revision is still `expected`, 0n for "there is none". Null when it is
   * another: nothing changed then. One exchange.
   *
   * @throws ConclaveError ABORTED, TIMEOUT, SESSION_LOST, CODEC, INVALID_ARGUMENT
   */
  async compareAndSet(
    expected: bigint,
    value: T,
    options: UpdateOptions = {},
  ): Promise<Versioned<T> | null> {
    if (typeof expected !== 'bigint' || expected < 0n) {
      throw invalidArgument('expected', expected, 'a revision: a bigint, 0n or more');
    }
    const attempt = await this.#withinTime(options, (signal) =>
      this.#attempt(expected, value, signal),
    );
    return 'set' in attempt ? attempt.set : null;
  }

  /** Sets the value whatever it is. Exchanges as `update`. @throws what `update` throws */
  set(value: T, options: UpdateOptions = {}): Promise<Versioned<T>> {
    return this.update(() => value, options);
  }

  /**
   * Replaces the value by what `change` makes of it. One exchange to read it, one to write,
   * one more for each time that somebody else came first; `change` is then called again with
   * what they wrote, so it should do nothing else. What it throws ends the update.
   *
   * @throws ConclaveError CONFLICT after too many conflicts, ABORTED, TIMEOUT, SESSION_LOST, CODEC,
   *   INVALID_ARGUMENT
   */
  async update(
    change: (value: T | undefined) => Promise<T> | T,
    options: UpdateOptions = {},
  ): Promise<Versioned<T>> {
    checkFunction(change, 'change', 'a function that makes the next value');
    const subject = { recipe: this.#recipe, name: this.name };
    return this.#withinTime(options, async (signal) => {
      let base = await this.#read(signal);
      return untilUncontended(this.#context, subject, this.#retries, signal, async () => {
        const made = Promise.resolve(this.#decode(base)?.value).then(change);
        const next = await unlessAborted(made, signal);
        const attempt = await this.#attempt(base?.modRevision ?? 0n, next, signal);
        if ('set' in attempt) return attempt.set;
        base = attempt.found;
        return 'conflict';
      });
    });
  }

  #withinTime<R>(
    options: UpdateOptions,
    call: (signal: AbortSignal | undefined) => Promise<R>,
  ): Promise<R> {
    checkOptions<UpdateOptions>(options, timeLimits);
    const { clock } = this.#context.session.client;
    return withinTime(clock, options, `The change of ${this.#recipe} '${this.name}'`, call);
  }

  async #attempt(expected: bigint, value: T, signal?: AbortSignal): Promise<Attempt<T>> {
    const { session } = this.#context;
    const encoded = encodeWith(this.#codec, value);
    const opKey = `${this.#root}op/${session.id}-${randomId(session.client.random)}`;
    const records = spentRecords(this.#context, this.#root);
    const spent = records.splice(0, spentAtOnce);
    let removed = false;
    try {
      const outcome = await commitOnce(
        session,
        {
          key: opKey,
          record: '1',
          lease: session.lease,
          compares: [compare.modRevision(this.#key, '==', expected)],
          writes: [op.put(this.#key, encoded), ...spent.map((key) => op.delete(key))],
          reads: [op.get(this.#key)],
          fence: true,
        },
        signal,
      );
      if (outcome.kind === 'refused') return { found: outcome.found[0] ?? null };
      removed = true;
      if (outcome.kind === 'recorded')
        return { set: { value, revision: outcome.record.modRevision } };
      if (outcome.alone) records.push(opKey);
      return { set: { value, revision: outcome.revision } };
    } finally {
      if (!removed) records.push(...spent);
    }
  }

  async #read(signal?: AbortSignal): Promise<KeyValue | null> {
    const { session } = this.#context;
    const { client } = session;
    throwIfAborted(signal);
    session.assertLive();
    const stop = linkedSignal(session.signal, signal);
    try {
      const read = () => client.kv.get(this.#key, { signal: stop.signal });
      return await untilAnswered(client, read, stop.signal);
    } catch (error) {
      session.assertLive();
      throw signal?.aborted ? aborted(signal) : error;
    } finally {
      stop.unlink();
    }
  }

  #decode(kv: KeyValue | null): Versioned<T> | null {
    if (kv === null) return null;
    return { value: decodeWith(this.#codec, kv.value, kv.key), revision: kv.modRevision };
  }
}
