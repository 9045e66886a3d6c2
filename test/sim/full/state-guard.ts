/** A state that belongs to one life of its process: what a dead one still tries changes nothing. */
import type { State } from '../../../server/ports.ts';
import type { Life } from './process.ts';

/** Thrown into code of a process that is gone. */
export class DeadProcessError extends Error {
  override readonly name = 'DeadProcessError';
}

export function guardedState(state: State, life: Life): State {
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
    apply: (index, writes, term) => alive().apply(index, writes, term),
    install: (snapshot) => alive().install(snapshot),
    flush: () => alive().flush(),
    size: () => alive().size(),
    close: () => alive().flush(),
  };
}
