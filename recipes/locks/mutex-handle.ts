/** What a mutex gives out, and what it tells while it is being acquired. */
import type { View } from '../common/view.ts';
import type { Holding } from '../line/holding.ts';
import { HeldLock, type LockHandle } from './lock-handle.ts';
import type { OwnWrites } from './own-writes.ts';
import type { Revocation } from './revocation.ts';

export interface MutexHandle extends LockHandle {
  /**
   * Emits once somebody has asked this holder to let go, also to those who subscribe later; completes
   * with the hold. Heeding it is up to the holder.
   */
  readonly revocation$: View<Revocation>;
}

export type LockProgress =
  /** The place in line is reserved behind this many, the holder included. */
  | { readonly type: 'reserved'; readonly ahead: number }
  /** So many are ahead now. */
  | { readonly type: 'moved'; readonly ahead: number }
  | { readonly type: 'acquired'; readonly lock: MutexHandle };

export class MutexHold extends HeldLock implements MutexHandle {
  readonly #writes: OwnWrites;

  constructor(name: string, holding: Holding, writes: OwnWrites) {
    super(name, holding);
    this.#writes = writes;
    holding.onEnd(() => writes.close());
  }

  get revocation$(): View<Revocation> {
    return this.#writes.revocation$;
  }
}
