/**
 * A configuration that all clients follow: one document, changed as a whole by compare-and-set, so
 * that nobody ever sees half of a change.
 *
 * Guarantee: the value is always one that was valid, and the latest such that this client has heard of:
 * what it cannot read or validate, a store that does not answer, and a deletion leave it as it was, and
 * `status` says which.
 */
import { filter } from 'rxjs';
import { bytes, type Codec, json } from '../../sdk/codec.ts';
import { ConclaveError, invalidArgument, isConclaveError } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { StateSource } from '../../sdk/observe.ts';
import type { CallOptions, Duration } from '../../sdk/options.ts';
import type { RecipeContext } from '../common/context.ts';
import { parsePeriod } from '../common/durations.ts';
import {
  checkCodec,
  checkFunction,
  checkOptions,
  onlySignal,
  timeLimits,
} from '../common/option-checks.ts';
import { type FollowNotice, PrefixFollower } from '../common/prefix-follower.ts';
import { mayRepeat, untilAnswered } from '../common/repeat.ts';
import { withinTime } from '../common/time-limit.ts';
import { stateView, type View } from '../common/view.ts';
import { configPrefix } from '../names.ts';
import type { Contention } from '../values/contention.ts';
import { SharedValue, type UpdateOptions } from '../values/shared-value.ts';
import { DocumentFormat, type ReadDocument } from './config-document.ts';
import { ConfigState, type ConfigStatus, type ConfigVersion } from './config-state.ts';
import { isStandardSchema, type StandardSchema } from './standard-schema.ts';
import { type WaitOptions, waitForState } from './waiting.ts';

export type ConfigOptions<Output, Input = Output> = Contention &
  WaitOptions & {
    /** What values are valid: a schema of any library that follows Standard Schema. @default all */
    readonly schema?: StandardSchema<Input, Output>;
    /** How the document is written. @default JSON */
    readonly codec?: Codec<Input>;
    /** In force as long as there is no document, or at the start no valid one. @default none */
    readonly default?: Input;
    /** How often the document is compared with the store's, whatever the watch says. @default '15s' */
    readonly recheck?: Duration;
  };

const knownOptions = {
  ...timeLimits,
  retries: true,
  schema: true,
  codec: true,
  default: true,
  recheck: true,
} as const;

/** An earlier state of the document; `error` says why this client cannot use it. */
export type ConfigRevision<T> = { readonly revision: bigint } & (
  | { readonly value: T; readonly error?: undefined }
  | { readonly value?: undefined; readonly error: ConclaveError }
);

/** Makes the next value. `stored` is the document with whatever this client's schema does not know. */
export type ConfigChange<Output, Input> = (
  value: Output,
  stored: unknown,
) => Input | Promise<Input>;

type Found = Pick<KeyValue, 'value' | 'modRevision'>;

export class Config<Output, Input = Output> implements AsyncDisposable {
  readonly name: string;
  /** The value with its revision, at once, then each that takes its place. */
  readonly changes$: View<ConfigVersion<Output>>;
  readonly status$: View<ConfigStatus>;
  readonly #context: RecipeContext;
  readonly #key: string;
  readonly #format: DocumentFormat<Output, Input>;
  readonly #document: SharedValue<Uint8Array>;
  readonly #state = new ConfigState<Output>();
  readonly #follower: PrefixFollower;
  /** Rises with everything that was taken notice of. */
  readonly #moments = new StateSource(0);
  readonly #fallback: ConfigVersion<Output> | undefined;
  /** What was looked at last: nothing is looked at twice. */
  #seen: Found | null | undefined;
  /** The last own write: what is older than that is not news. */
  #written = 0n;
  #reading: Promise<void> = Promise.resolve();
  #closed: Promise<void> | undefined;

  private constructor(
    context: RecipeContext,
    name: string,
    format: DocumentFormat<Output, Input>,
    fallback: ConfigVersion<Output> | undefined,
    { retries, recheck = '15s' }: ConfigOptions<Output, Input>,
  ) {
    const recheckMs = parsePeriod(recheck, 'recheck');
    this.name = name;
    this.#context = context;
    const root = configPrefix(name);
    this.#key = `${root}current`;
    this.#format = format;
    this.#fallback = fallback;
    const contention = { codec: bytes(), ...(retries === undefined ? {} : { retries }) };
    this.#document = new SharedValue(context, name, contention, { recipe: 'config', root });
    this.changes$ = stateView(this.#state.good$.pipe(filter((good) => good !== undefined)));
    this.status$ = stateView(this.#state.status$);
    const follow = { prefix: this.#key, recheckMs };
    const { client } = context.session;
    this.#follower = new PrefixFollower(client, follow, (notice) => this.#hear(notice));
    context.background.add(this);
    if (isConclaveError(context.session.signal.reason, 'CLOSED')) void this.close();
    void this.#follower.ended.then(() => this.close());
  }

  /**
   * Reads the configuration and follows it. One exchange, and a watch.
   *
   * @throws ConclaveError INVALID_ARGUMENT; without a default NOT_FOUND when there is no document, CODEC
   *   when it is not valid; ABORTED, TIMEOUT, PERMISSION_DENIED; SESSION_LOST or CLOSED as soon as the
   *   session ends
   */
  static async open<Output, Input>(
    context: RecipeContext,
    name: string,
    options: ConfigOptions<Output, Input>,
  ): Promise<Config<Output, Input>> {
    checkOptions<ConfigOptions<Output, Input>>(options, knownOptions);
    const { schema, codec = json<Input>() } = options;
    checkCodec(codec);
    if (schema !== undefined && !isStandardSchema(schema)) {
      throw invalidArgument('schema', schema, "an object with '~standard', see standardschema.dev");
    }
    const format = new DocumentFormat<Output, Input>(name, codec, schema);
    const fallback =
      options.default === undefined
        ? undefined
        : { value: await format.accept(options.default, 'default'), revision: 0n };
    const config = new Config<Output, Input>(context, name, format, fallback, options);
    try {
      await config.#opened(options);
      return config;
    } catch (error) {
      await config.close();
      throw error;
    }
  }

  /** The last good value. Costs nothing. */
  get value(): Output {
    return this.#version.value;
  }

  /** Of the write that made the value; 0n for the default. */
  get revision(): bigint {
    return this.#version.revision;
  }

  get status(): ConfigStatus {
    return this.#state.status;
  }

  /**
   * Replaces the document by what `change` makes of the value; that must be valid. `change` is called
   * again when others came first, so it should do nothing else. A change that resolves has happened
   * once, whatever answers got lost, and `value` shows it or a later one. Exchanges: 2, and one for
   * each conflict.
   *
   * @throws ConclaveError INVALID_ARGUMENT when the new value is not valid; CODEC when the present
   *   document is not, NOT_FOUND when it was deleted (`set` replaces it); CONFLICT, ABORTED,
   *   TIMEOUT, SESSION_LOST, CLOSED, and what `change` throws
   */
  async update(
    change: ConfigChange<Output, Input>,
    options: UpdateOptions = {},
  ): Promise<ConfigVersion<Output>> {
    checkFunction(change, 'change', 'a function that makes the next value');
    return this.#write(async (present) => {
      const { value, stored } = await this.#current(present);
      return this.#format.write(await change(value, stored), 'value');
    }, options);
  }

  /** Replaces the document whatever it is. Exchanges and errors as `update`. */
  async set(value: Input, options: UpdateOptions = {}): Promise<ConfigVersion<Output>> {
    const document = await this.#format.write(value, 'value');
    return this.#write(() => document, options);
  }

  /**
   * The value as it was at a revision. One exchange.
   *
   * @throws ConclaveError COMPACTED, FUTURE_REVISION, NOT_FOUND, CODEC, ABORTED, TIMEOUT
   */
  async at(revision: bigint, options: UpdateOptions = {}): Promise<ConfigVersion<Output>> {
    checkOptions<UpdateOptions>(options, timeLimits);
    const what = `Reading the config '${this.name}'`;
    const { value, modRevision } = await withinTime(this.#clock, options, what, (signal) =>
      this.#documentAt(revision, signal),
    );
    const document = await this.#format.read(value, modRevision);
    return { value: document.value, revision: modRevision };
  }

  /**
   * The document and its earlier states, the latest first, as far back as the store's compaction and
   * the last deletion allow. One exchange each.
   *
   * @throws ConclaveError while iterating ABORTED, INVALID_ARGUMENT, UNREACHABLE, TIMEOUT
   */
  async *history(
    options: Pick<CallOptions, 'signal'> = {},
  ): AsyncGenerator<ConfigRevision<Output>> {
    checkOptions(options, onlySignal);
    const { client } = this.#context.session;
    let found = await client.kv.get(this.#key, options);
    while (found) {
      const revision = found.modRevision;
      yield await this.#format.read(found.value, revision).then(
        ({ value }) => ({ revision, value }),
        (error: ConclaveError) => ({ revision, error }),
      );
      found = await client.kv
        .get(this.#key, { ...options, revision: revision - 1n })
        .catch((error) => {
          if (isConclaveError(error, 'COMPACTED')) return null;
          throw error;
        });
    }
  }

  /**
   * Writes the document of an earlier revision again, byte by byte, if it is still valid. One exchange
   * to read it, others as `update`.
   *
   * @throws ConclaveError what `at` and `update` throw
   */
  async rollback(revision: bigint, options: UpdateOptions = {}): Promise<ConfigVersion<Output>> {
    checkOptions<UpdateOptions>(options, timeLimits);
    const what = `The rollback of the config '${this.name}'`;
    return withinTime(this.#clock, options, what, async (signal) => {
      const { value, modRevision } = await this.#documentAt(revision, signal);
      await this.#format.read(value, modRevision);
      return this.#write(() => value, signal === undefined ? {} : { signal });
    });
  }

  /** Follows no more; `value` stays as it is. Idempotent; never rejects. The session does it too. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  get #version(): ConfigVersion<Output> {
    const { good } = this.#state;
    if (good === undefined) throw new ConclaveError('INTERNAL', 'The config has not been read');
    return good;
  }

  async #close(): Promise<void> {
    this.#context.background.delete(this);
    this.#moments.complete();
    await this.#follower.close();
    this.#state.complete();
  }

  async #opened(options: WaitOptions): Promise<void> {
    const { name } = this;
    const take = () => {
      const { good, bad } = this.#state;
      if (good) return true;
      if (bad) throw bad.reason;
      const { error } = this.#follower;
      if (error && !mayRepeat(error)) throw error;
      return undefined;
    };
    const what = `the config '${name}'`;
    const states$ = this.#moments.observable;
    await waitForState(this.#context, { recipe: 'config', name, what, states$, take }, options);
  }

  get #clock() {
    return this.#context.session.client.clock;
  }

  async #documentAt(revision: bigint, signal: AbortSignal | undefined): Promise<KeyValue> {
    if (typeof revision !== 'bigint' || revision < 1n) {
      throw invalidArgument('revision', revision, 'a bigint, 1n or more');
    }
    const { client } = this.#context.session;
    const call = signal === undefined ? { revision } : { revision, signal };
    const found = await untilAnswered(client, () => client.kv.get(this.#key, call), signal);
    if (found) return found;
    const message = `There was no config '${this.name}' at revision ${revision}`;
    throw new ConclaveError('NOT_FOUND', message);
  }

  async #current(present: Uint8Array | undefined): Promise<ReadDocument<Output>> {
    if (present !== undefined) return this.#format.read(present, this.#follower.copy.revision);
    if (this.#fallback === undefined) throw this.#missing();
    return { value: this.#fallback.value, stored: undefined };
  }

  #missing(): ConclaveError {
    return new ConclaveError('NOT_FOUND', `There is no config '${this.name}'`, {
      remedy: 'Write one, or give a default.',
    });
  }

  async #write(
    change: (present: Uint8Array | undefined) => Promise<Uint8Array> | Uint8Array,
    options: UpdateOptions,
  ): Promise<ConfigVersion<Output>> {
    if (this.#closed !== undefined)
      throw new ConclaveError('CLOSED', `The config '${this.name}' was closed`);
    const { value, revision } = await this.#document.update(change, options);
    const document = await this.#format.read(value, revision);
    // Not older than what is known: shown before the watch brings it.
    if (this.#follower.copy.revision < revision && this.#written < revision) {
      this.#written = revision;
      this.#look({ value, modRevision: revision });
    }
    await this.#reading;
    return { value: document.value, revision };
  }

  #hear(notice: FollowNotice): void {
    switch (notice.type) {
      case 'reset':
        if (notice.reason === 'rewound') this.#written = 0n;
        this.#state.answers();
        this.#look(undefined);
        return;
      case 'changed':
        this.#look(undefined);
        return;
      case 'stale': {
        const { error } = notice;
        this.#state.answers(error === undefined ? {} : { error });
        this.#happened();
        return;
      }
      case 'fresh':
        this.#state.answers();
        this.#happened();
        return;
      case 'refused':
    }
  }

  /** Takes the latest there is into force, after what is being read. */
  #look(own: Found | undefined): void {
    this.#reading = this.#reading.then(() => this.#read(own));
  }

  async #read(own: Found | undefined): Promise<void> {
    const { copy, known } = this.#follower;
    if (!known) return;
    const found = own ?? copy.get(this.#key) ?? null;
    // The watch is behind an own write.
    if (own === undefined && copy.revision < this.#written) return;
    if (this.#seen !== undefined && isSame(found, this.#seen)) return;
    this.#seen = found;
    try {
      const version = found ? await this.#versionOf(found) : this.#fallback;
      if (version === undefined) throw this.#missing();
      if (this.#closed === undefined) this.#state.accept(version);
    } catch (reason) {
      const revision = found?.modRevision ?? copy.revision;
      if (this.#state.good === undefined && this.#fallback) this.#state.accept(this.#fallback);
      if (isConclaveError(reason)) this.#state.refuse({ revision, reason });
    }
    this.#happened();
  }

  async #versionOf({ value, modRevision }: Found): Promise<ConfigVersion<Output>> {
    const document = await this.#format.read(value, modRevision);
    return { value: document.value, revision: modRevision };
  }

  #happened(): void {
    this.#moments.set(this.#moments.value + 1);
  }
}

const isSame = (one: Found | null, other: Found | null): boolean => {
  if (one === null || other === null) return one === other;
  return one.modRevision === other.modRevision && Buffer.compare(one.value, other.value) === 0;
};
