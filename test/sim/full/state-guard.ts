/** A state that belongs to one life of its process: what a dead one still tries changes nothing. */
import type { PointName } from '../../../server/points.ts';
import type { State } from '../../../server/ports.ts';
import type { Life } from './process.ts';

/** Thrown into code of a process that is gone. */
export class DeadProcessError extends Error {
  override readonly name = 'DeadProcessError';
}

/** `reached`: told before and after each step of it. */
export function guardedState(state: State, life: Life, reached: (point: PointName) => void): State {
  const alive = (): State => {
    if (!life.isAlive) throw new DeadProcessError('the process was killed');
    return state;
  };
  return {
    get applied() {
      return alive().applied;
    },
    get appliedIndex() {
      return alive().appliedIndex;
    },
    get durableIndex() {
      return alive().durableIndex;
    },
    get backlogBytes() {
      return alive().backlogBytes;
    },
    get: (key) => alive().get(key),
    scan: (start, end, options) => alive().scan(start, end, options),
    count: (start, end, step) => alive().count(start, end, step),
    apply: (index, writes, term) => {
      reached('before-apply');
      alive().apply(index, writes, term);
      reached('after-apply');
    },
    install: async (snapshot) => {
      reached('before-snapshot-install');
      await alive().install(snapshot);
      reached('after-snapshot-install');
    },
    flush: () => alive().flush(),
    size: () => alive().size(),
    close: () => alive().flush(),
  };
}
