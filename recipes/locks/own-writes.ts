/**
 * What others write into the key of a holder: a request to let go, or nothing but the value that is
 * there, by which another process takes the hold over.
 */
import { filter } from 'rxjs';
import type { KeyValue } from '../../sdk/kv.ts';
import { StateSource } from '../../sdk/observe.ts';
import { stateView, type View } from '../common/view.ts';
import { type Revocation, revocationIn } from './revocation.ts';

/** Notes requests in the own key, from before the hold is granted. */
export class OwnWrites {
  readonly #latest = new StateSource<Revocation | undefined>(undefined);
  #revocation$: View<Revocation> | undefined;
  #value: Uint8Array;
  /** Of the last write that is known; undefined for the one that made the key. */
  #modRevision: bigint | undefined;

  constructor(value: Uint8Array, modRevision?: bigint) {
    this.#value = value;
    this.#modRevision = modRevision;
  }

  /** True when the hold was taken over. */
  readonly note = (kv: KeyValue): boolean => {
    if (this.#latest.value === undefined) this.#latest.set(revocationIn(kv));
    if (kv.modRevision <= (this.#modRevision ?? kv.createRevision)) return false;
    const isSame = Buffer.compare(kv.value, this.#value) === 0;
    this.#value = kv.value;
    this.#modRevision = kv.modRevision;
    return isSame;
  };

  /** Made for the first who asks: most holds are short, and nobody does. */
  get revocation$(): View<Revocation> {
    this.#revocation$ ??= stateView(
      this.#latest.observable.pipe(filter((revocation) => revocation !== undefined)),
    );
    return this.#revocation$;
  }

  close(): void {
    this.#latest.complete();
  }
}
