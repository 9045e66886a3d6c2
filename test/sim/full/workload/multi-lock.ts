/** Several locks at once: beside what every lock promises, an attempt has all of them or none. */
import { lockPrefix } from '../../../../recipes/names.ts';
import { checkAllOrNone } from '../../../lin/recipes-line.ts';
import { hold } from '../../engine/violation.ts';
import type { CommitLog } from '../commit-log.ts';
import { multiLock, multiNames } from './lock-kinds.ts';
import { LockWorkload } from './locks.ts';

export class MultiLockWorkload extends LockWorkload {
  constructor() {
    super(multiLock);
  }

  override check(log: CommitLog): void {
    super.check(log);
    const [wrong] = checkAllOrNone(log.commits, multiNames.map(lockPrefix));
    hold(wrong === undefined, 27, () => `${wrong}`);
  }
}
