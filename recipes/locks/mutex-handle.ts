/** What a mutex gives out, and what it tells while it is being acquired. */
import { filter } from 'rxjs';
import type { KeyValue } from '../../sdk/kv.ts';
import { type Observable, StateSource } from '../../sdk/observe.ts';
import { onAbort } from '../common/signals.ts';
import type { Holding } from '../line/holding.ts';
import { HeldLock, type LockHandle } from './lock-handle.ts';
import { type Revocation, revocationIn } from './revocation.ts';

export interface MutexHandle extends LockHandle {
  /**
   * Emits once somebody has asked this holder to let go, also to those who subscribe later; completes
   * with the hold. Heeding it is up to the holder.
   */
  readonly revocation$: Observable<Revocation>;
}

export type LockProgress =
  /** The place in line is reserved behind this many, the holder included. */
  | { readonly type: 'reserved'; readonly ahead: number }
  /** So many are ahead now. */
  | { readonly type: 'moved'; readonly ahead: number }
  | { readonly type: 'acquired'; readonly lock: MutexHandle };

/** Notes requests in the own key, from before the hold is granted. */
export class RevocationInbox {
  readonly #latest = new StateSource<Revocation | undefined>(undefined);
  readonly revocation$: Observable<Revocation> = this.#latest.observable.pipe(
    filter((revocation) => revocation !== undefined),
  );

  readonly note = (kv: KeyValue): void => {
    if (this.#latest.value === undefined) this.#latest.set(revocationIn(kv));
  };

  close(): void {
    this.#latest.complete();
  }
}

export class MutexHold extends HeldLock implements MutexHandle {
  readonly revocation$: Observable<Revocation>;

  constructor(name: string, holding: Holding, inbox: RevocationInbox) {
    super(name, holding);
    this.revocation$ = inbox.revocation$;
    onAbort(holding.signal, () => inbox.close());
  }
}
