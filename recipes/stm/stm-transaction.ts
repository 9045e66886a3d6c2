/** One run of the function of a transaction: what it read, and what it wants to write. */
import { type Codec, decodeWith, encodeWith, json } from '../../sdk/codec.ts';
import { ConclaveError, invalidArgument } from '../../sdk/errors.ts';
import type { Key, KeyRange } from '../../sdk/keys.ts';
import { type Operation, type Operations, op, type Txn } from '../../sdk/txn.ts';
import { checkCodec, checkFunction, checkOptions } from '../common/option-checks.ts';
import { byKey, bytesOf, includes, shownAs, spanOf, textOf } from './stm-keys.ts';
import { StmReads } from './stm-reads.ts';
import type { RangeRequest, StmSnapshot } from './stm-snapshot.ts';

export type StmValueOptions<T> = {
  /** How the value is written. @default JSON */
  readonly codec?: Codec<T>;
};

export type StmPutOptions<T> = StmValueOptions<T> & {
  /** Ties the key to this lease. @default none, also for a key that had one */
  readonly lease?: bigint;
};

export type StmRangeOptions<T> = StmValueOptions<T> & {
  /** At most so many; then only they, and the keys between them, have to stay as they are. */
  readonly limit?: number;
  /** From the last key to the first. @default false */
  readonly descending?: boolean;
};

export type StmEntry<T> = {
  /** The key as UTF-8 text; bytes that are not UTF-8 show as U+FFFD, use `keyBytes` then. */
  readonly key: string;
  readonly keyBytes: Uint8Array;
  readonly value: T;
};

/** What adds its condition to a transaction: a held lock, a leadership. */
export type StmGuard = {
  guard<Then extends Operations, Else extends Operations>(txn: Txn<Then, Else>): Txn<Then, Else>;
};

/**
 * What the function of a transaction works with. Reads see the own writes. Nothing is written before
 * the function has returned; it is of no use after that (RELEASED).
 */
export interface StmTransaction {
  /** How often the function has run before in this transaction. */
  readonly attempt: number;
  /** Aborts when the transaction can come to nothing any more: its session, signal or timeout. */
  readonly signal: AbortSignal;
  /** Undefined when there is no such key. @throws ConclaveError CODEC, INVALID_ARGUMENT */
  get<T = unknown>(key: Key, options?: StmValueOptions<T>): Promise<T | undefined>;
  /** In the order of the keys. @throws ConclaveError CODEC, INVALID_ARGUMENT */
  range<T = unknown>(
    range: KeyRange,
    options?: StmRangeOptions<T>,
  ): Promise<readonly StmEntry<T>[]>;
  /** @throws ConclaveError CODEC, INVALID_ARGUMENT */
  put<T>(key: Key, value: T, options?: StmPutOptions<T>): void;
  /** @throws ConclaveError INVALID_ARGUMENT */
  delete(key: Key): void;
  /**
   * The transaction takes effect only if this still is held when it commits.
   *
   * @throws what its `guard` throws when it is not held now
   */
  guard(held: StmGuard): void;
}

function codecOf<T>({ codec = json<T>() }: StmValueOptions<T>): Codec<T> {
  checkCodec(codec);
  return codec;
}

/** Null deletes. */
export type StmWrite = { readonly value: Buffer; readonly lease: bigint | undefined } | null;

export class StmRun implements StmTransaction {
  readonly attempt: number;
  readonly signal: AbortSignal;
  readonly snapshot: StmSnapshot;
  readonly reads = new StmReads();
  readonly writes = new Map<string, StmWrite>();
  readonly guards = new Set<StmGuard>();
  readonly #probe: Txn;
  #over = false;

  /** @param probe an empty transaction, to try guards on */
  constructor(snapshot: StmSnapshot, attempt: number, signal: AbortSignal, probe: Txn) {
    this.snapshot = snapshot;
    this.attempt = attempt;
    this.signal = signal;
    this.#probe = probe;
  }

  async get<T = unknown>(key: Key, options: StmValueOptions<T> = {}): Promise<T | undefined> {
    this.#assertOpen();
    checkOptions<StmValueOptions<T>>(options, { codec: true });
    const codec = codecOf(options);
    const text = textOf(key);
    const decode = (value: Uint8Array) => decodeWith(codec, value, shownAs(text));
    const written = this.writes.get(text);
    if (written !== undefined) return written === null ? undefined : decode(written.value);
    const kv = await this.snapshot.key(text);
    this.#assertOpen();
    this.reads.sawKey(text, kv);
    return kv === null ? undefined : decode(kv.value);
  }

  async range<T = unknown>(
    range: KeyRange,
    options: StmRangeOptions<T> = {},
  ): Promise<readonly StmEntry<T>[]> {
    this.#assertOpen();
    checkOptions<StmRangeOptions<T>>(options, { codec: true, limit: true, descending: true });
    const codec = codecOf(options);
    const { limit, descending = false } = options;
    if (limit !== undefined && (!Number.isSafeInteger(limit) || limit < 1)) {
      throw invalidArgument('limit', limit, 'a whole number, 1 or more');
    }
    const span = spanOf(range);
    const request: RangeRequest = {
      span,
      limit: limit === undefined ? undefined : limit + this.#deletedIn(span),
      descending,
    };
    const read = await this.snapshot.range(request);
    this.#assertOpen();
    this.reads.sawRange(request, read);
    const merged = new Map<string, Uint8Array>();
    for (const { keyBytes, value } of read.kvs) merged.set(textOf(keyBytes), value);
    for (const [key, written] of this.writes) {
      if (!includes(read.coverage, key)) continue;
      if (written === null) merged.delete(key);
      else merged.set(key, written.value);
    }
    return [...merged]
      .sort(([one], [other]) => (descending ? byKey(other, one) : byKey(one, other)))
      .slice(0, limit)
      .map(([text, value]) => {
        const key = shownAs(text);
        return { key, keyBytes: bytesOf(text), value: decodeWith(codec, value, key) };
      });
  }

  put<T>(key: Key, value: T, options: StmPutOptions<T> = {}): void {
    this.#assertOpen();
    checkOptions<StmPutOptions<T>>(options, { codec: true, lease: true });
    const codec = codecOf(options);
    const { lease } = options;
    if (lease !== undefined && typeof lease !== 'bigint') {
      throw invalidArgument('lease', lease, 'the id of a lease: a bigint');
    }
    this.writes.set(textOf(key), { value: encodeWith(codec, value), lease });
  }

  delete(key: Key): void {
    this.#assertOpen();
    this.writes.set(textOf(key), null);
  }

  guard(held: StmGuard): void {
    this.#assertOpen();
    checkFunction(held?.guard, 'held.guard', 'the guard() of something held');
    held.guard(this.#probe);
    this.guards.add(held);
  }

  /** From here on every use is an error. */
  close(): void {
    this.#over = true;
  }

  get operations(): readonly Operation[] {
    return [...this.writes].map(([key, written]) => {
      if (written === null) return op.delete(bytesOf(key));
      const { value, lease } = written;
      return op.put(bytesOf(key), value, lease === undefined ? {} : { lease });
    });
  }

  #deletedIn(span: RangeRequest['span']): number {
    let deleted = 0;
    for (const [key, written] of this.writes) {
      if (written === null && includes(span, key)) deleted += 1;
    }
    return deleted;
  }

  #assertOpen(): void {
    if (this.#over) {
      throw new ConclaveError('RELEASED', 'The function of this transaction has ended');
    }
  }
}
