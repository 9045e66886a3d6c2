/** Sequential objects for the search. */
import type { Operation } from './history.ts';
import type { SequentialModel } from './search.ts';

/** A register whose values are unique, so that they tell writes apart. */
export type RegisterAction =
  | { readonly kind: 'read' }
  /** `undefined` removes it. */
  | { readonly kind: 'write'; readonly value: string | undefined }
  /** Writes `value` if the register holds `expected`; answered with whether it did. */
  | {
      readonly kind: 'swap';
      readonly expected: string | undefined;
      readonly value: string | undefined;
    };
export type RegisterAnswer = {
  /** Of reads. */
  readonly value?: string | undefined;
  /** Of swaps. */
  readonly swapped?: boolean;
};

export const register: SequentialModel<string | undefined, RegisterAction, RegisterAnswer> = {
  initial: undefined,
  step(state, action, answer) {
    switch (action.kind) {
      case 'read':
        return answer === undefined || answer.value === state ? [state] : [];
      case 'write':
        return [action.value];
      case 'swap': {
        const swapped = state === action.expected;
        if (answer !== undefined && answer.swapped !== swapped) return [];
        return [swapped ? action.value : state];
      }
    }
  },
  fingerprint: (state) => (state === undefined ? 'absent' : `=${state}`),
};

/** A lock that one holder has at a time. A refused attempt is a failed operation. */
export type MutexAction = {
  readonly kind: 'acquire' | 'release';
  readonly holder: string;
};

export const mutex: SequentialModel<string | undefined, MutexAction, true> = {
  initial: undefined,
  step(state, { kind, holder }) {
    if (kind === 'acquire') return state === undefined ? [holder] : [];
    return state === holder ? [undefined] : [];
  },
  fingerprint: (state) => (state === undefined ? 'free' : `held by ${state}`),
};

/** A first-in, first-out queue of unique items; taking from the empty one answers `undefined`. */
export type FifoAction =
  | { readonly kind: 'push'; readonly item: string }
  | { readonly kind: 'take' };
export type FifoAnswer = { readonly item?: string | undefined };

export const fifo: SequentialModel<readonly string[], FifoAction, FifoAnswer> = {
  initial: [],
  step(state, action, answer) {
    if (action.kind === 'push') return [[...state, action.item]];
    const [first, ...rest] = state;
    return answer === undefined || answer.item === first ? [rest] : [];
  },
  fingerprint: (state) => JSON.stringify(state),
};

/** The operations of each object by itself. */
export function partition<Action, Answer>(
  operations: readonly Operation<Action, Answer>[],
  objectOf: (action: Action) => string,
): Map<string, Operation<Action, Answer>[]> {
  const parts = new Map<string, Operation<Action, Answer>[]>();
  for (const operation of operations) {
    const object = objectOf(operation.action);
    const part = parts.get(object);
    if (part === undefined) parts.set(object, [operation]);
    else part.push(operation);
  }
  return parts;
}
