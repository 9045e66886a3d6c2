/**
 * Transactions of one turn in one exchange: each nested in it, with conditions and an outcome of its
 * own. For those that touch different keys, since a transaction writes each key once, and that are
 * repeated by whoever commits them when an answer is lost.
 */
import type { Client } from '../../sdk/client.ts';
import { ConclaveError, isConclaveError } from '../../sdk/errors.ts';
import type { Duration } from '../../sdk/options.ts';
import { type Operations, op, type Txn, type TxnResult } from '../../sdk/txn.ts';
import { mayRepeat } from './repeat.ts';
import { Together } from './together.ts';

/**
 * Servers allow 128 operations on any way from the outermost level to the innermost: this leaves each of
 * them 88.
 */
const atOnce = 40;

type AnyTxn = Txn<Operations, Operations>;
type AnyResult = TxnResult<Operations, Operations>;

type Waiting = {
  readonly txn: AnyTxn;
  readonly resolve: (result: AnyResult) => void;
  readonly reject: (error: unknown) => void;
};

export class TxnsTogether {
  readonly #client: Client;
  readonly #timeout: Duration;
  readonly #together = new Together<Waiting>(atOnce, (waiting) => this.#commit(waiting));

  /** @param timeout of an exchange */
  constructor(client: Client, timeout: Duration) {
    this.#client = client;
    this.#timeout = timeout;
  }

  /** @throws what `commit` of the transaction throws */
  commit<Then extends Operations, Else extends Operations>(
    txn: Txn<Then, Else>,
  ): Promise<TxnResult<Then, Else>> {
    return new Promise((resolve, reject) => {
      this.#together.add({
        txn,
        // Of this very transaction.
        resolve: (result) => resolve(result as TxnResult<Then, Else>),
        reject,
      });
    });
  }

  async #commit(waiting: readonly Waiting[]): Promise<void> {
    const [first] = waiting;
    if (first !== undefined && waiting.length === 1) return this.#commitAlone(first);
    try {
      const txn = this.#client.kv.txn().then(...waiting.map(({ txn }) => op.txn(txn)));
      const { responses } = await txn.commit({ timeout: this.#timeout });
      for (const [index, { resolve }] of waiting.entries()) resolve(responses[index] as AnyResult);
    } catch (error) {
      const isRefused = isConclaveError(error) && error.outcome === 'not-applied';
      if (isRefused && !mayRepeat(error)) {
        // For the sake of one of them, perhaps.
        await Promise.all(waiting.map((one) => this.#commitAlone(one)));
        return;
      }
      for (const { reject } of waiting) reject(error);
      this.#leaveToThemselves(error);
    }
  }

  /** The store does not answer: those who have not been sent need not wait for others before they know. */
  #leaveToThemselves(cause: unknown): void {
    for (const { reject } of this.#together.takeWaiting()) {
      reject(new ConclaveError('UNREACHABLE', 'The store did not answer others', { cause }));
    }
  }

  #commitAlone({ txn, resolve, reject }: Waiting): Promise<void> {
    return txn.commit({ timeout: this.#timeout }).then(resolve, reject);
  }
}
