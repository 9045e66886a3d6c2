/**
 * Linearizability by search, for objects whose answers carry no order of their own. The search walks
 * through time and linearizes an operation only when its return forces it to (Wing and Gong 1993;
 * just-in-time linearization after Lowe, "Testing for linearizability", 2017). All it remembers at a
 * moment is which states are possible and which pending operations each of them has used, so a long
 * history costs as much as its busiest window. Linearizability is local: check each key by itself.
 */
import { isAnswered, type Operation } from './history.ts';

export type SequentialModel<State, Action, Answer> = {
  readonly initial: State;
  /**
   * The states after `action` was answered with `answer`; none when it cannot be answered so.
   * Without an answer: the states after any answer.
   */
  step(state: State, action: Action, answer: Answer | undefined): readonly State[];
  /** Equal for equal states, and only for them. */
  fingerprint(state: State): string;
};

export type SearchResult<Action, Answer> =
  | { readonly kind: 'linearizable'; readonly configurations: number }
  | {
      readonly kind: 'violation';
      /** The operation whose answer nothing explains. */
      readonly operation: Operation<Action, Answer>;
      /** Fingerprints of the states that were possible before it. */
      readonly states: readonly string[];
      /** What else was under way. */
      readonly pending: readonly Operation<Action, Answer>[];
    }
  /** The budget ran out: nothing is known, which is not a pass. */
  | { readonly kind: 'exhausted'; readonly configurations: number };

export type SearchOptions = {
  /** How many configurations may be visited in all. */
  readonly maxConfigurations?: number;
};

type Configuration<State> = {
  readonly state: State;
  /** Slots of answered operations that took effect already. */
  readonly answered: bigint;
  /** Slots of operations without an answer that took effect already. */
  readonly open: bigint;
};

export function searchLinearization<State, Action, Answer>(
  model: SequentialModel<State, Action, Answer>,
  operations: readonly Operation<Action, Answer>[],
  { maxConfigurations = 2_000_000 }: SearchOptions = {},
): SearchResult<Action, Answer> {
  const pending = new Map<bigint, Operation<Action, Answer>>();
  const slots = new Map<Operation<Action, Answer>, bigint>();
  const free: bigint[] = [];
  let slotCount = 0n;
  let visited = 0;
  let frontier: Configuration<State>[] = [{ state: model.initial, answered: 0n, open: 0n }];

  for (const { operation, isReturn } of timeline(operations)) {
    if (!isReturn) {
      const slot = free.pop() ?? 1n << slotCount++;
      slots.set(operation, slot);
      pending.set(slot, operation);
      continue;
    }
    const slot = slots.get(operation) ?? 0n;
    const next = new Frontier(model);
    const explored = new Frontier(model);
    const queue = frontier.slice();
    for (const one of queue) explored.add(one);
    for (const configuration of queue) {
      visited += 1;
      if (visited > maxConfigurations) return { kind: 'exhausted', configurations: visited };
      if ((configuration.answered & slot) !== 0n) {
        next.add({ ...configuration, answered: configuration.answered & ~slot });
        continue;
      }
      for (const successor of successors(model, configuration, pending)) {
        if ((successor.answered & slot) !== 0n)
          next.add({ ...successor, answered: successor.answered & ~slot });
        else if (explored.add(successor)) queue.push(successor);
      }
    }
    pending.delete(slot);
    free.push(slot);
    if (next.isEmpty)
      return {
        kind: 'violation',
        operation,
        states: [...new Set(frontier.map(({ state }) => model.fingerprint(state)))],
        pending: [...pending.values()],
      };
    frontier = next.list();
  }
  return { kind: 'linearizable', configurations: visited };
}

function* successors<State, Action, Answer>(
  model: SequentialModel<State, Action, Answer>,
  { state, answered, open }: Configuration<State>,
  pending: ReadonlyMap<bigint, Operation<Action, Answer>>,
): Generator<Configuration<State>> {
  for (const [slot, operation] of pending) {
    if (((answered | open) & slot) !== 0n) continue;
    const isKnown = isAnswered(operation);
    const answer = isKnown ? operation.outcome.answer : undefined;
    for (const after of model.step(state, operation.action, answer))
      yield isKnown
        ? { state: after, answered: answered | slot, open }
        : { state: after, answered, open: open | slot };
  }
}

/**
 * Configurations without those that another one covers: the same state with fewer of the operations
 * used that need never take effect.
 */
class Frontier<State> {
  readonly #model: { fingerprint(state: State): string };
  readonly #byState = new Map<string, Configuration<State>[]>();

  constructor(model: { fingerprint(state: State): string }) {
    this.#model = model;
  }

  get isEmpty(): boolean {
    return this.#byState.size === 0;
  }

  /** False when it was covered already. */
  add(configuration: Configuration<State>): boolean {
    const key = `${configuration.answered} ${this.#model.fingerprint(configuration.state)}`;
    const others = this.#byState.get(key);
    if (others === undefined) {
      this.#byState.set(key, [configuration]);
      return true;
    }
    const { open } = configuration;
    if (others.some((other) => (other.open & open) === other.open)) return false;
    const kept = others.filter((other) => (other.open & open) !== open);
    kept.push(configuration);
    this.#byState.set(key, kept);
    return true;
  }

  list(): Configuration<State>[] {
    return [...this.#byState.values()].flat();
  }
}

type Moment<Action, Answer> = {
  readonly operation: Operation<Action, Answer>;
  readonly isReturn: boolean;
  readonly at: number;
};

/** Invocations and returns in order; of those at one time the invocations come first. */
function timeline<Action, Answer>(
  operations: readonly Operation<Action, Answer>[],
): Moment<Action, Answer>[] {
  return operations
    .filter(({ outcome }) => outcome.kind !== 'fail')
    .flatMap((operation): Moment<Action, Answer>[] => {
      const invocation = { operation, isReturn: false, at: operation.invoked };
      return isAnswered(operation)
        ? [invocation, { operation, isReturn: true, at: operation.returned }]
        : [invocation];
    })
    .sort((left, right) => left.at - right.at || Number(left.isReturn) - Number(right.isReturn));
}
