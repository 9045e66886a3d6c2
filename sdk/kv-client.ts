/** Keys and values over a connection. */
import type { KeyValue as WireKeyValue } from '../server/wire/mvccpb/kv.ts';
import { type Codec, decodeWith } from './codec.ts';
import type { Connection } from './connection.ts';
import { invalidArgument, isConclaveError } from './errors.ts';
import { type Key, type KeyRange, type Keyspace, toBuffer } from './keys.ts';
import type {
  DeleteOptions,
  DeleteResult,
  GetOptions,
  IterateOptions,
  KeyValue,
  Kv,
  ListOptions,
  ListResult,
  PutOptions,
  PutResult,
} from './kv.ts';
import { type CallOptions, parseTimeout } from './options.ts';
import type { CallSettings } from './persistent-call.ts';
import { promised } from './promised.ts';
import type { Txn } from './txn.ts';
import { emptyParts, TxnBuilder } from './txn-builder.ts';
import type { Watch, WatchOptions } from './watch.ts';
import type { WatchHub } from './watch-hub.ts';
import {
  fromDeleteResponse,
  fromKeyValue,
  fromPutResponse,
  fromRangeResponse,
  toDeleteRequest,
  toPutRequest,
  toRangeRequest,
} from './wire-kv.ts';
import { keyOnly } from './wire-txn.ts';

const defaultPageSize = 1_000;

export class KvClient implements Kv {
  readonly #connection: Connection;
  readonly #keyspace: Keyspace;
  readonly #hub: WatchHub;

  constructor(connection: Connection, keyspace: Keyspace, hub: WatchHub) {
    this.#connection = connection;
    this.#keyspace = keyspace;
    this.#hub = hub;
  }

  get(key: Key, options: GetOptions = {}): Promise<KeyValue | null> {
    return this.#one(key, options, (kv) => fromKeyValue(this.#keyspace, kv));
  }

  getString(key: Key, options: GetOptions = {}): Promise<string | null> {
    return this.#one(key, options, ({ value }) => toBuffer(value).toString('utf8'));
  }

  async getAs<T>(key: Key, codec: Codec<T>, options: GetOptions = {}): Promise<KeyValue<T> | null> {
    const kv = await this.get(key, options);
    return kv === null ? null : { ...kv, value: decodeWith(codec, kv.value, kv.key) };
  }

  #one<T>(key: Key, options: GetOptions, shown: (kv: WireKeyValue) => T): Promise<T | null> {
    return promised(() => {
      const request = toRangeRequest(this.#keyspace, keyOnly(key), options);
      return this.#connection.call('range', request, settings(options)).then(({ kvs: [kv] }) => {
        return kv === undefined ? null : shown(kv);
      });
    });
  }

  async list(range: Key | KeyRange, options: ListOptions = {}): Promise<ListResult> {
    const request = toRangeRequest(this.#keyspace, range, options);
    const response = await this.#connection.call('range', request, settings(options));
    return fromRangeResponse(this.#keyspace, response);
  }

  async count(range: Key | KeyRange, options: GetOptions = {}): Promise<bigint> {
    const request = toRangeRequest(this.#keyspace, range, { ...options, countOnly: true });
    const response = await this.#connection.call('range', request, settings(options));
    return response.count;
  }

  async *iterate(
    range: Key | KeyRange,
    options: IterateOptions = {},
  ): AsyncGenerator<KeyValue, void> {
    const { pageSize = defaultPageSize, ...rest } = options;
    if (!Number.isSafeInteger(pageSize) || pageSize < 1) {
      throw invalidArgument('pageSize', pageSize, 'a whole number from 1');
    }
    let request = toRangeRequest(this.#keyspace, range, {
      ...rest,
      limit: pageSize,
      uncounted: true,
    });
    for (;;) {
      const response = await this.#connection.call('range', request, settings(options));
      const page = fromRangeResponse(this.#keyspace, response);
      yield* page.kvs;
      const last = response.kvs.at(-1);
      if (!page.more || last === undefined) return;
      request = {
        ...request,
        key: Buffer.concat([last.key, Buffer.of(0)]),
        revision: request.revision > 0n ? request.revision : page.revision,
      };
    }
  }

  put(key: Key, value: string | Uint8Array, options: PutOptions = {}): Promise<PutResult> {
    return promised(() => {
      const request = toPutRequest(this.#keyspace, key, value, options);
      return this.#connection
        .call('put', request, settings(options))
        .then((response) => fromPutResponse(this.#keyspace, response));
    });
  }

  async delete(range: Key | KeyRange, options: DeleteOptions = {}): Promise<DeleteResult> {
    const request = toDeleteRequest(this.#keyspace, range, options);
    const response = await this.#connection.call('deleteRange', request, settings(options));
    return fromDeleteResponse(this.#keyspace, response);
  }

  txn(): Txn {
    return new TxnBuilder<readonly [], readonly []>(this.#connection, this.#keyspace, emptyParts);
  }

  watch(range: Key | KeyRange, options: WatchOptions = {}): Watch {
    return this.#hub.watch(this.#keyspace, range, options);
  }

  async compact(
    revision: bigint,
    options: CallOptions & { readonly physical?: boolean } = {},
  ): Promise<void> {
    if (typeof revision !== 'bigint' || revision < 1n) {
      throw invalidArgument('revision', revision, 'a bigint from 1n');
    }
    let repeated = false;
    try {
      await this.#connection.call(
        'compact',
        { revision, physical: options.physical ?? false },
        {
          ...settings(options),
          onAmbiguous: () => {
            repeated = true;
          },
        },
      );
    } catch (error) {
      // An earlier attempt whose answer was lost has done it.
      if (!(repeated && isConclaveError(error, 'COMPACTED'))) throw error;
    }
  }
}

const settings = (options: CallOptions): CallSettings => ({
  signal: options.signal,
  timeoutMs: parseTimeout(options),
});
