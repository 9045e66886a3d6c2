/**
 * What a process that is gone has left under a lease: locks it held, places it waited in. Whoever
 * takes the lease over keeps all of it alive, so what it does not take over has to go.
 */
import type { Kv } from './kv.ts';
import type { Leases } from './lease.ts';
import type { CallOptions } from './options.ts';
import { compare, type Operation, op } from './txn.ts';

/** Within etcd's default of 128 operations in a transaction. */
const keysAtOnce = 64;

export class InheritedKeys {
  readonly #kv: Kv;
  /** Everything that was written up to this revision is by the former process. */
  readonly #revision: bigint;
  #keys: readonly Uint8Array[];

  private constructor(kv: Kv, revision: bigint, keys: readonly Uint8Array[]) {
    this.#kv = kv;
    this.#revision = revision;
    this.#keys = keys;
  }

  /**
   * The keys that the lease has now. Two exchanges, one when there are none.
   *
   * @param kv of the whole store, under no prefix
   */
  static async of(
    { kv, leases, lease }: { kv: Kv; leases: Leases; lease: bigint },
    options: CallOptions,
  ): Promise<InheritedKeys> {
    const info = await leases.timeToLive(lease, { ...options, keys: true });
    const [first, ...others] = info?.keys ?? [];
    if (first === undefined) return new InheritedKeys(kv, 0n, []);
    // Any key that the caller may read would do: it is the revision that is asked for.
    const { revision } = await kv.list(first, { ...options, keysOnly: true });
    return new InheritedKeys(kv, revision, [first, ...others]);
  }

  /**
   * Deletes those that nobody has written again. Safe to repeat; true when that is done.
   */
  async deleteUntouched(): Promise<boolean> {
    while (this.#keys.length > 0) {
      const some = this.#keys.slice(0, keysAtOnce);
      const deletes = some.map((key) =>
        op.txn(
          this.#kv
            .txn()
            .if(
              compare.createRevision(key, '>', 0n),
              compare.modRevision(key, '<', this.#revision + 1n),
            )
            .then(op.delete(key)),
        ),
      );
      await this.#kv
        .txn()
        .then<readonly Operation[]>(...deletes)
        .commit();
      this.#keys = this.#keys.slice(keysAtOnce);
    }
    return true;
  }
}
