/** The definition itself: tries every order. Only for histories of a handful of operations. */
import { isAnswered, type Operation, precedes } from './history.ts';
import type { SequentialModel } from './search.ts';
import {
  applyChanges,
  type Commit,
  type Entry,
  evaluate,
  type StoreOperation,
  sameChanges,
  sameResults,
} from './store.ts';

/** Every order in which the operations can have happened; those without an answer may be left out. */
export function* possibleOrders<Action, Answer>(
  operations: readonly Operation<Action, Answer>[],
): Generator<readonly Operation<Action, Answer>[]> {
  const candidates = operations.filter(({ outcome }) => outcome.kind !== 'fail');
  function* extend(
    order: readonly Operation<Action, Answer>[],
    left: readonly Operation<Action, Answer>[],
  ): Generator<readonly Operation<Action, Answer>[]> {
    if (!left.some(isAnswered)) yield order;
    for (const next of left) {
      const others = left.filter((other) => other !== next);
      if (!others.some((other) => precedes(other, next))) yield* extend([...order, next], others);
    }
  }
  yield* extend([], candidates);
}

export function isLinearizable<State, Action, Answer>(
  model: SequentialModel<State, Action, Answer>,
  operations: readonly Operation<Action, Answer>[],
): boolean {
  for (const order of possibleOrders(operations)) {
    const final = order.reduce<readonly State[]>(
      (states, { action, outcome }) =>
        states.flatMap((state) =>
          model.step(state, action, outcome.kind === 'ok' ? outcome.answer : undefined),
        ),
      [model.initial],
    );
    if (final.length > 0) return true;
  }
  return false;
}

/** For transactions: an order that makes exactly this log and gives every answer. */
export function explainsLog(
  log: readonly Commit[],
  operations: readonly StoreOperation[],
): boolean {
  for (const order of possibleOrders(operations)) if (makes(log, order)) return true;
  return false;
}

function makes(log: readonly Commit[], order: readonly StoreOperation[]): boolean {
  const entries = new Map<string, Entry>();
  let revision = 1;
  for (const operation of order) {
    if (operation.action.kind !== 'txn') return false;
    const { succeeded, results, changes } = evaluate(operation.action, entries, revision + 1);
    if (changes.length > 0) {
      const commit = log[revision - 1];
      revision += 1;
      if (commit?.revision !== revision || !sameChanges(commit.changes, changes)) return false;
      applyChanges(entries, changes);
    }
    if (!isAnswered(operation)) continue;
    const { answer } = operation.outcome;
    if (answer.revision !== revision || (answer.succeeded ?? true) !== succeeded) return false;
    if (!sameResults(answer.results ?? [], results)) return false;
  }
  return revision === (log.at(-1)?.revision ?? 1);
}
