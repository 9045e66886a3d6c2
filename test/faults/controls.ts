/**
 * Controls: violations planted in what was really recorded. A checker that does not find them proves
 * nothing about the rest of the run.
 */
import { isAnswered } from '../lin/history.ts';
import { keyHistories, keyRegister } from '../lin/key-register.ts';
import { checkRevisions } from '../lin/replay.ts';
import { searchLinearization } from '../lin/search.ts';
import { type Commit, claimsRevision, type StoreOperation } from '../lin/store.ts';
import { checkWatchRun, WatchLog, type WatchRun } from '../lin/watch.ts';

export type Recorded = {
  readonly log: readonly Commit[];
  readonly operations: readonly StoreOperation[];
  readonly runs: readonly WatchRun[];
};

type Control = {
  readonly name: string;
  /** Whether the planted violation was found. */
  readonly finds: (recorded: Recorded) => boolean;
};

export const controls: readonly Control[] = [
  {
    name: 'a stale read, by revision and by search',
    finds({ log, operations }) {
      const planted = operations.map((operation) =>
        operation === lastRead(operations) ? withOldAnswer(operation, operations) : operation,
      );
      const bySearch = [...keyHistories(planted).values()].some(
        (history) => searchLinearization(keyRegister, history).kind === 'violation',
      );
      return isViolation(log, planted) && bySearch;
    },
  },
  {
    name: 'a lost write',
    finds: ({ log, operations }) => isViolation(log.slice(0, -20), operations),
  },
  {
    name: 'a write that nobody made',
    finds({ log, operations }) {
      const victim = operations.find(claimsRevision);
      return isViolation(
        log,
        operations.filter((operation) => operation !== victim),
      );
    },
  },
  {
    name: 'a refused write that happened',
    finds({ log, operations }) {
      const victim = operations.find(claimsRevision);
      const outcome = { kind: 'fail', reason: 'planted' } as const;
      return isViolation(
        log,
        operations.map((operation) =>
          operation === victim ? { ...operation, outcome } : operation,
        ),
      );
    },
  },
  {
    name: 'a revision given out twice',
    finds({ log, operations }) {
      const [first, second] = operations.filter(claimsRevision).filter(isAnswered);
      if (first === undefined || second === undefined) return false;
      const answer = { ...second.outcome.answer, revision: first.outcome.answer.revision };
      return isViolation(
        log,
        operations.map((operation) =>
          operation === second ? { ...second, outcome: { kind: 'ok', answer } } : operation,
        ),
      );
    },
  },
  { name: 'a watch event left out', finds: (recorded) => findsInWatch(recorded, () => []) },
  {
    name: 'a watch event delivered twice',
    finds: (recorded) => findsInWatch(recorded, (response) => [response, response]),
  },
];

function isViolation(log: readonly Commit[], operations: readonly StoreOperation[]): boolean {
  return checkRevisions({ log, operations, mayExpire: () => true }).length > 0;
}

/** A read of a key that had been written before, answered long after that write. */
function lastRead(operations: readonly StoreOperation[]): StoreOperation | undefined {
  return operations.findLast((operation) => withOldAnswer(operation, operations) !== operation);
}

function withOldAnswer(
  operation: StoreOperation,
  operations: readonly StoreOperation[],
): StoreOperation {
  const { action } = operation;
  if (action.kind !== 'txn' || action.serializable === true || !isAnswered(operation))
    return operation;
  const [step] = action.success;
  const isRead = action.conditions.length === 0 && action.success.length === 1;
  const [result] = operation.outcome.answer.results ?? [];
  if (!isRead || step?.kind !== 'read' || result?.kind !== 'read') return operation;
  if (result.entry === undefined || result.entry.lease !== 0n) return operation;
  const earlier = operations.filter(isAnswered).find(({ action: other, outcome, returned }) => {
    const [before] = outcome.answer.results ?? [];
    const [read] = other.kind === 'txn' ? other.success : [];
    return (
      returned < operation.invoked &&
      read?.key === step.key &&
      before?.kind === 'read' &&
      before.entry !== undefined &&
      before.entry.value !== result.entry?.value
    );
  });
  if (earlier === undefined) return operation;
  const { answer } = operation.outcome;
  const results = earlier.outcome.answer.results ?? [];
  return { ...operation, outcome: { kind: 'ok', answer: { ...answer, results } } };
}

function findsInWatch(
  { log, runs }: Recorded,
  replaceFirst: (response: WatchRun['responses'][number]) => WatchRun['responses'],
): boolean {
  const run = runs.find(
    ({ responses }) => responses.filter(({ kind }) => kind === 'events').length > 1,
  );
  if (run === undefined) return false;
  const place = run.responses.findIndex(({ kind }) => kind === 'events');
  const responses = run.responses.flatMap((response, index) =>
    index === place ? replaceFirst(response) : [response],
  );
  return checkWatchRun(new WatchLog(log), { ...run, responses }).length > 0;
}
