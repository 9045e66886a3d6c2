/**
 * Controls: violations planted in what was really recorded. A checker that does not find them proves
 * nothing about the rest of the run.
 */
import { type Answered, isAnswered } from '../lin/history.ts';
import { keyHistories, keyRegister } from '../lin/key-register.ts';
import { checkRevisions } from '../lin/replay.ts';
import { searchLinearization } from '../lin/search.ts';
import {
  type Commit,
  claimsRevision,
  type StoreAction,
  type StoreAnswer,
  type StoreOperation,
} from '../lin/store.ts';
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
      const planted = withStaleRead(operations);
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

/** The last read that can be given what the first read of its key was given, long before. */
function withStaleRead(operations: readonly StoreOperation[]): readonly StoreOperation[] {
  const firstRead = new Map<string, Answered<StoreAction, StoreAnswer>>();
  let replaced: StoreOperation | undefined;
  let stale: StoreOperation | undefined;
  for (const operation of [...operations].filter(isAnswered).sort(byReturn)) {
    const { action, outcome, invoked } = operation;
    const [result] = outcome.answer.results ?? [];
    const isPlainRead =
      action.kind === 'txn' && action.serializable !== true && action.conditions.length === 0;
    if (!isPlainRead || result?.kind !== 'read' || action.success.length > 1) continue;
    const key = action.success[0]?.key ?? '';
    const first = firstRead.get(key);
    if (first === undefined) {
      if (result.entry !== undefined) firstRead.set(key, operation);
      continue;
    }
    const [before] = first.outcome.answer.results ?? [];
    const isOther = before?.kind === 'read' && before.entry?.value !== result.entry?.value;
    if (!isOther || first.returned >= invoked) continue;
    const { results = [] } = first.outcome.answer;
    replaced = operation;
    stale = { ...operation, outcome: { kind: 'ok', answer: { ...outcome.answer, results } } };
  }
  return operations.map((operation) => (operation === replaced ? (stale ?? operation) : operation));
}

const byReturn = (left: StoreOperation, right: StoreOperation): number =>
  left.returned - right.returned;

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
