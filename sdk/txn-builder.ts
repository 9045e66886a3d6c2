/** Transactions as values that grow step by step. */
import type { TxnResponse } from '../server/wire/etcdserverpb/rpc.ts';
import type { Connection } from './connection.ts';
import { ConclaveError } from './errors.ts';
import type { Keyspace } from './keys.ts';
import { type CallOptions, parseTimeout } from './options.ts';
import { promised } from './promised.ts';
import type { Compare, Operations, Txn, TxnParts, TxnRefusal, TxnResult } from './txn.ts';
import { fromRootResponse, readsOnly, toRootRequest, toTxnRequest } from './wire-txn.ts';

export class TxnBuilder<Then extends Operations, Else extends Operations>
  implements Txn<Then, Else>
{
  readonly parts: TxnParts;
  readonly #connection: Connection;
  readonly #keyspace: Keyspace;

  constructor(connection: Connection, keyspace: Keyspace, parts: TxnParts) {
    this.#connection = connection;
    this.#keyspace = keyspace;
    this.parts = parts;
  }

  if(...compares: Compare[]): Txn<Then, Else> {
    return this.#with({ ...this.parts, compares: [...this.parts.compares, ...compares] });
  }

  // biome-ignore lint/suspicious/noThenProperty: the word of the field; awaiting by mistake rejects
  then<const Ops extends Operations>(...operations: Ops): Txn<readonly [...Then, ...Ops], Else> {
    // `await txn` calls this with two functions instead of operations.
    const [, reject] = operations as readonly unknown[];
    if (typeof reject === 'function') {
      reject(
        new ConclaveError('INVALID_ARGUMENT', 'A transaction is not a promise: call commit()'),
      );
    }
    return this.#with({ ...this.parts, success: [...this.parts.success, ...operations] });
  }

  else<const Ops extends Operations>(...operations: Ops): Txn<Then, readonly [...Else, ...Ops]> {
    return this.#with({ ...this.parts, failure: [...this.parts.failure, ...operations] });
  }

  commit(options: CallOptions = {}): Promise<TxnResult<Then, Else>> {
    return promised(() =>
      this.#connection
        .call('txn', toRootRequest(this.#keyspace, this.parts), {
          signal: options.signal,
          timeoutMs: parseTimeout(options),
          effect: readsOnly(this.parts) ? 'read' : 'write',
        })
        .then((response) => this.#resultOf(response)),
    );
  }

  async whenFalse({ signal }: Pick<CallOptions, 'signal'> = {}): Promise<TxnRefusal<Else>> {
    const request = toTxnRequest(this.#keyspace, this.parts);
    const settings = { signal, timeoutMs: Number.POSITIVE_INFINITY };
    const response = await this.#connection.call('txnWhenFalse', request, settings);
    return this.#resultOf(response) as TxnRefusal<Else>;
  }

  #resultOf(response: TxnResponse): TxnResult<Then, Else> {
    // The answer's shape was checked against the parts; only the compiler cannot see it.
    return fromRootResponse(this.#keyspace, this.parts, response) as TxnResult<Then, Else>;
  }

  #with<T extends Operations, E extends Operations>(parts: TxnParts): Txn<T, E> {
    return new TxnBuilder<T, E>(this.#connection, this.#keyspace, parts);
  }
}

export const emptyParts: TxnParts = { compares: [], success: [], failure: [] };
