/**
 * The history of a store as histories of its keys, without any revision, for the search: a check that
 * does not believe what the store says about order. What a transaction did to one key is an operation
 * on that key; conditions on other keys leave open which branch it took.
 */
import { isAnswered, type Operation } from './history.ts';
import type { SequentialModel } from './search.ts';
import type { Step, StepResult, StoreOperation, StoreTxn } from './store.ts';

export type KeyAction = {
  readonly key: string;
  /** What the conditions on this key demand: a value, `undefined` for absence. */
  readonly demands: readonly (string | undefined)[];
  /** No other condition could have decided for the failure branch. */
  readonly isDecidedHere: boolean;
  readonly success: readonly Step[];
  readonly failure: readonly Step[];
};

export type KeyAnswer = {
  readonly succeeded: boolean;
  /** Of the steps on this key: what was read, or whether a deletion found something. */
  readonly results: readonly StepResult[];
};

type Value = string | undefined;

export const keyRegister: SequentialModel<Value, KeyAction, KeyAnswer> = {
  initial: undefined,
  step(state, action, answer) {
    const holds = action.demands.every((demand) => demand === state);
    const branches = [
      ...(holds ? [true] : []),
      ...(holds && action.isDecidedHere ? [] : [false]),
    ].filter((branch) => answer === undefined || answer.succeeded === branch);
    return branches.flatMap((branch) => {
      const after = run(branch ? action.success : action.failure, state, answer?.results);
      return after === undefined ? [] : [after.value];
    });
  },
  fingerprint: (state) => (state === undefined ? 'absent' : `=${state}`),
};

/** The value after the steps; nothing when they cannot have had these results. */
function run(
  steps: readonly Step[],
  before: Value,
  results: readonly StepResult[] | undefined,
): { readonly value: Value } | undefined {
  let value = before;
  for (const [index, step] of steps.entries()) {
    const result = results?.[index];
    if (result?.kind === 'read' && result.entry?.value !== value) return undefined;
    if (result?.kind === 'delete' && result.deleted > 0 !== (value !== undefined)) return undefined;
    if (step.kind === 'put') value = step.value;
    if (step.kind === 'delete') value = undefined;
  }
  return { value };
}

/**
 * The history of each key. Keys that were ever on a lease are left out: a lease ends without an
 * operation. So are serializable and historical reads, which need not be recent.
 */
export function keyHistories(
  operations: readonly StoreOperation[],
): Map<string, Operation<KeyAction, KeyAnswer>[]> {
  const histories = new Map<string, Operation<KeyAction, KeyAnswer>[]>();
  const leased = new Set<string>();
  const keys = new Set<string>();
  for (const { action } of operations)
    if (action.kind === 'txn')
      for (const step of [...action.success, ...action.failure]) {
        keys.add(step.key);
        if (step.kind === 'put' && (step.lease ?? 0n) !== 0n) leased.add(step.key);
      }
  for (const key of keys) if (!leased.has(key)) histories.set(key, []);
  for (const operation of operations)
    for (const [key, history] of histories) {
      const projected = project(operation, key);
      if (projected !== undefined) history.push(projected);
    }
  return histories;
}

function project(
  operation: StoreOperation,
  key: string,
): Operation<KeyAction, KeyAnswer> | undefined {
  const { id, client, action, invoked, returned, outcome } = operation;
  const as = (keyAction: KeyAction, answer: () => KeyAnswer): Operation<KeyAction, KeyAnswer> => ({
    ...{ id, client, action: keyAction, invoked, returned },
    outcome: outcome.kind === 'ok' ? { kind: 'ok', answer: answer() } : outcome,
  });
  if (action.kind === 'list' && action.serializable !== true && isAnswered(operation))
    return as(readAction(key), () => ({
      succeeded: true,
      results: [{ kind: 'read', entry: operation.outcome.answer.entries?.get(key) }],
    }));
  if (action.kind !== 'txn' || action.serializable === true) return undefined;
  const onKey = (steps: readonly Step[]) => steps.filter((step) => step.key === key);
  const success = onKey(action.success);
  const failure = onKey(action.failure);
  if (success.length === 0 && failure.length === 0) return undefined;
  return as({ key, ...conditionsOn(key, action), success, failure }, () => {
    const answer = isAnswered(operation) ? operation.outcome.answer : undefined;
    const succeeded = answer?.succeeded ?? true;
    const steps = succeeded ? action.success : action.failure;
    const results = (answer?.results ?? []).filter((_, index) => steps[index]?.key === key);
    return { succeeded, results };
  });
}

function readAction(key: string): KeyAction {
  const success = [{ kind: 'read', key }] as const;
  return { key, demands: [], isDecidedHere: true, success, failure: [] };
}

/** A condition on a revision other than 0 demands something that a value cannot show. */
function conditionsOn(
  key: string,
  { conditions }: StoreTxn,
): Pick<KeyAction, 'demands' | 'isDecidedHere'> {
  const demands: Value[] = [];
  let isDecidedHere = true;
  for (const condition of conditions) {
    const isVisible =
      condition.key === key && ('value' in condition || condition.modRevision === 0);
    if (isVisible) demands.push('value' in condition ? condition.value : undefined);
    else isDecidedHere = false;
  }
  return { demands, isDecidedHere };
}
