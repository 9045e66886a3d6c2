import fc from 'fast-check';
import { expect, test } from 'vitest';
import { explainsLog } from './brute-force.ts';
import type { Outcome } from './history.ts';
import { checkRevisions } from './replay.ts';
import {
  applyChanges,
  type Change,
  type Commit,
  type Entry,
  evaluate,
  put,
  read,
  remove,
  type StoreAction,
  type StoreAnswer,
  type StoreOperation,
  type StoreTxn,
} from './store.ts';

const unknown = { kind: 'unknown', reason: 'no answer' } as const;
const refused = { kind: 'fail', reason: 'refused' } as const;

/** A store that carries operations out one after the other and remembers everything. */
class Scene {
  readonly entries = new Map<string, Entry>();
  readonly log: Commit[] = [];
  readonly operations: StoreOperation[] = [];
  revision = 1;

  /** Invoked at `at`, answered at `at + 1` unless said otherwise. */
  run(at: number, action: StoreTxn, outcome?: Outcome<StoreAnswer>, returned = at + 1): this {
    const { succeeded, results, changes } = evaluate(action, this.entries, this.revision + 1);
    if (changes.length > 0) this.commit(changes);
    return this.note(at, action, outcome ?? this.answer({ succeeded, results }), returned);
  }

  note(at: number, action: StoreAction, outcome: Outcome<StoreAnswer>, returned = at + 1): this {
    const id = this.operations.length + 1;
    this.operations.push({ id, client: 'c', action, invoked: at, returned, outcome });
    return this;
  }

  answer(fields: Omit<StoreAnswer, 'revision'> = {}): Outcome<StoreAnswer> {
    return { kind: 'ok', answer: { revision: this.revision, ...fields } };
  }

  commit(changes: readonly Change[]): this {
    this.revision += 1;
    this.log.push({ revision: this.revision, changes });
    applyChanges(this.entries, changes);
    return this;
  }

  check(mayExpire?: (lease: bigint) => boolean): string[] {
    const { log, operations } = this;
    return checkRevisions({ log, operations, ...(mayExpire === undefined ? {} : { mayExpire }) });
  }
}

const swap = (key: string, modRevision: number, value: string): StoreTxn => ({
  kind: 'txn',
  conditions: [{ key, modRevision }],
  success: [{ kind: 'put', key, value }],
  failure: [{ kind: 'read', key }],
});
const replaced = <T>(list: readonly T[], index: number, change: (one: T) => T): T[] =>
  list.map((one, at) => (at === index ? change(one) : one));
const told = (operation: StoreOperation, answer: Partial<StoreAnswer>): StoreOperation =>
  operation.outcome.kind === 'ok'
    ? { ...operation, outcome: { kind: 'ok', answer: { ...operation.outcome.answer, ...answer } } }
    : operation;

/** Two writes, a read, a swap, a refused swap, a write without an answer, a deletion, a listing. */
function sound(): Scene {
  const scene = new Scene()
    .run(1, put('a', 'one'))
    .run(3, put('a', 'two'))
    .run(5, read('a'))
    .run(7, swap('a', 3, 'three'))
    .run(9, swap('a', 3, 'never'))
    .run(11, put('b', 'open'), unknown)
    .run(13, remove('a'));
  return scene.note(15, { kind: 'list' }, scene.answer({ entries: new Map(scene.entries) }));
}

test('a sound history has no violations', () => {
  expect(sound().check()).toEqual([]);
});

test('a stale read is found', () => {
  const scene = sound();
  const old = scene.log[0]?.changes[0]?.entry;
  const operations = replaced(scene.operations, 2, (operation) =>
    told(operation, { results: [{ kind: 'read', entry: old }] }),
  );
  expect(checkRevisions({ log: scene.log, operations })).toEqual([
    expect.stringMatching(/^stale or torn read: operation 3/),
  ]);
});

test('an answer from a revision older than what had been told is found', () => {
  const scene = sound();
  const operations = replaced(scene.operations, 2, (operation) =>
    told(operation, {
      revision: 2,
      results: [{ kind: 'read', entry: scene.log[0]?.changes[0]?.entry }],
    }),
  );
  expect(checkRevisions({ log: scene.log, operations })).toEqual([
    expect.stringMatching(/^order: operation 3/),
  ]);
  const asSerializable = replaced(operations, 2, (operation) => ({
    ...operation,
    action: { ...read('a'), serializable: true },
  }));
  expect(checkRevisions({ log: scene.log, operations: asSerializable })).toEqual([]);
});

test('a lost write is found', () => {
  const scene = sound().note(17, put('c', 'lost'), {
    kind: 'ok',
    answer: { revision: 7, succeeded: true, results: [{ kind: 'put' }] },
  });
  expect(scene.check()).toEqual([expect.stringMatching(/^lost: operation 9/)]);
});

test('a write that another replaced is found', () => {
  const scene = sound();
  const entry = { value: 'other', createRevision: 2, modRevision: 2, version: 1, lease: 0n };
  const log = replaced(scene.log, 0, (commit) => ({
    ...commit,
    changes: [{ type: 'put' as const, key: 'a', entry }],
  }));
  expect(checkRevisions({ log, operations: scene.operations })).toContainEqual(
    expect.stringMatching(/^lost or altered: operation 1/),
  );
});

test('a write without an answer that happened twice is found', () => {
  const entry = { value: 'open', createRevision: 6, modRevision: 7, version: 2, lease: 0n };
  const scene = sound().commit([{ type: 'put', key: 'b', entry: { ...entry, createRevision: 5 } }]);
  expect(scene.check()).toEqual([expect.stringMatching(/^revision 7 was written by nobody/)]);
});

test('a write without an answer that took effect before it was sent is found', () => {
  const scene = sound();
  const operations = replaced(scene.operations, 5, (operation) => ({ ...operation, invoked: 99 }));
  expect(checkRevisions({ log: scene.log, operations })).toContainEqual(
    expect.stringMatching(/^revision 5 was written by nobody/),
  );
});

test('a refused write that happened all the same is found', () => {
  const scene = new Scene().run(1, put('a', 'no'), refused);
  expect(scene.check()).toEqual([expect.stringMatching(/^revision 2 was written by nobody/)]);
});

test('a revision given out twice is found', () => {
  const scene = sound();
  const operations = replaced(scene.operations, 1, (operation) => told(operation, { revision: 2 }));
  expect(checkRevisions({ log: scene.log, operations })).toContainEqual(
    expect.stringMatching(/^revision 2 was given out twice/),
  );
});

test('a revision that is missing from the log is found', () => {
  const scene = sound();
  const log = scene.log.filter(({ revision }) => revision !== 3);
  expect(checkRevisions({ log, operations: scene.operations })).toContainEqual(
    'log: revision 4 follows 2',
  );
});

test('writes that swapped their order in real time are found', () => {
  const scene = sound();
  const operations = replaced(scene.operations, 0, (operation) => ({
    ...operation,
    invoked: 20,
    returned: 21,
  }));
  expect(checkRevisions({ log: scene.log, operations })).toEqual([
    expect.stringMatching(/^order: operation 1 /),
  ]);
});

test('a swap refused although its condition held is found', () => {
  const scene = sound();
  scene.note(17, swap('b', 5, 'swapped'), {
    kind: 'ok',
    answer: { revision: 6, succeeded: false, results: [{ kind: 'read', entry: undefined }] },
  });
  expect(scene.check()).toContainEqual(expect.stringMatching(/^no effect: operation 9/));
});

test('a torn listing is found', () => {
  const scene = sound();
  scene.note(17, { kind: 'list' }, scene.answer({ entries: new Map() }));
  expect(scene.check()).toEqual([expect.stringMatching(/^stale or torn read: listing 9/)]);
});

test('a read of the past is held to that past', () => {
  const scene = sound();
  const entry = scene.log[1]?.changes[0]?.entry;
  const past = { kind: 'read-at', key: 'a', revision: 3 } as const;
  scene.note(17, past, scene.answer({ results: [{ kind: 'read', entry }] }));
  expect(scene.check()).toEqual([]);
  scene.note(19, past, scene.answer({ results: [{ kind: 'read', entry: undefined }] }));
  expect(scene.check()).toEqual([expect.stringMatching(/^stale or torn read: operation 10/)]);
});

test('a version that does not continue the one before is found', () => {
  const scene = sound();
  const log = replaced(scene.log, 1, (commit) => ({
    ...commit,
    changes: commit.changes.map((change) => ({
      ...change,
      entry: change.entry === undefined ? undefined : { ...change.entry, version: 1 },
    })),
  }));
  expect(checkRevisions({ log, operations: scene.operations })).toContainEqual(
    expect.stringMatching(/^revision 3 shows a as/),
  );
});

test('a conditional deletion without an answer is not used up by another revision', () => {
  const scene = new Scene().run(1, put('a', 'one'));
  const conditional: StoreTxn = {
    kind: 'txn',
    conditions: [{ key: 'a', modRevision: 2 }],
    success: [{ kind: 'delete', key: 'a' }],
    failure: [],
  };
  scene.run(3, conditional, unknown).run(5, put('a', 'two')).run(7, remove('a'), unknown);
  // The unconditional one began early enough to explain the first deletion as well.
  const operations = replaced(scene.operations, 3, (operation) => ({ ...operation, invoked: 3 }));
  for (const order of [operations, operations.toReversed()])
    expect(checkRevisions({ log: scene.log, operations: order })).toEqual([]);
});

test('a deletion is not made by a write whose other branch the log shows', () => {
  const scene = new Scene().run(1, put('a', 'one')).run(3, remove('a'), unknown);
  const either: StoreTxn = {
    kind: 'txn',
    conditions: [{ key: 'a', modRevision: 2 }],
    success: [{ kind: 'delete', key: 'a' }],
    failure: [{ kind: 'put', key: 'a', value: 'two' }],
  };
  scene.run(5, either, unknown);
  const operations = replaced(scene.operations, 2, (operation) => ({ ...operation, invoked: 3 }));
  expect(checkRevisions({ log: scene.log, operations })).toEqual([]);
});

test('a lease takes all its keys with it, once, by revoke or because it may expire', () => {
  const leased = () =>
    new Scene()
      .note(1, { kind: 'grant', lease: 7n, ttlSeconds: 5 }, { kind: 'ok', answer: { revision: 1 } })
      .run(3, put('x', 'one', 7n))
      .run(5, put('y', 'two', 7n));
  const gone = (...keys: string[]): Change[] =>
    keys.map((key) => ({ type: 'delete', key, entry: undefined }));
  expect(
    leased()
      .commit(gone('x', 'y'))
      .check(() => true),
  ).toEqual([]);
  expect(leased().commit(gone('x', 'y')).check()).toHaveLength(1);
  expect(
    leased()
      .commit(gone('x'))
      .check(() => true),
  ).toHaveLength(1);
  const revoke = { kind: 'revoke', lease: 7n } as const;
  const revoked = leased().commit(gone('x', 'y'));
  expect(revoked.note(7, revoke, revoked.answer()).check()).toEqual([]);
  const halfRevoked = leased();
  expect(halfRevoked.note(7, revoke, halfRevoked.answer()).check()).toEqual([
    expect.stringMatching(/^no effect: operation 4/),
  ]);
  expect(
    leased()
      .commit(gone('x', 'y'))
      .run(9, put('x', 'three', 7n))
      .check(() => true),
  ).toEqual([expect.stringMatching(/^lease: revision 5 attaches x/)]);
});

const keys = ['a', 'b'] as const;
const step = fc.oneof(
  fc.record({ kind: fc.constant('put' as const), key: fc.constantFrom(...keys) }),
  fc.record({ kind: fc.constant('delete' as const), key: fc.constantFrom(...keys) }),
  fc.record({ kind: fc.constant('read' as const), key: fc.constantFrom(...keys) }),
);
const drawn = fc.record({
  conditions: fc.array(
    fc.record({ key: fc.constantFrom(...keys), modRevision: fc.integer({ min: 0, max: 3 }) }),
    { maxLength: 1 },
  ),
  success: fc.uniqueArray(step, { minLength: 1, maxLength: 2, selector: ({ key }) => key }),
  failure: fc.uniqueArray(step, { maxLength: 1, selector: ({ key }) => key }),
  before: fc.integer({ min: 0, max: 4 }),
  after: fc.integer({ min: 0, max: 4 }),
  fate: fc.constantFrom('ok', 'ok', 'ok', 'unknown', 'unknown and lost', 'fail'),
});
const damage = fc.option(
  fc.record({
    place: fc.nat(4),
    kind: fc.constantFrom(
      'revision',
      'results',
      'branch',
      'invoked',
      'returned',
      'drop commit',
      'refused',
    ),
    amount: fc.integer({ min: -2, max: 2 }),
  }),
);

test('the replay agrees with trying every order', () => {
  const verdicts = { sound: 0, unsound: 0 };
  fc.assert(
    fc.property(fc.array(drawn, { minLength: 1, maxLength: 5 }), damage, (plan, harm) => {
      const scene = new Scene();
      for (const [index, draw] of plan.entries()) {
        const withValues = (steps: typeof draw.success) =>
          steps.map((one) => (one.kind === 'put' ? { ...one, value: `v${index}` } : one));
        const txn: StoreTxn = {
          kind: 'txn',
          conditions: draw.conditions,
          success: withValues(draw.success),
          failure: withValues(draw.failure).map((one) =>
            one.kind === 'put' ? { ...one, value: `${one.value} else` } : one,
          ),
        };
        const at = index * 2;
        if (draw.fate === 'ok') scene.run(at - draw.before, txn, undefined, at + draw.after);
        else if (draw.fate === 'unknown') scene.run(at - draw.before, txn, unknown, at);
        else scene.note(at - draw.before, txn, draw.fate === 'fail' ? refused : unknown, at);
      }
      const { log, operations } = harmed(scene, harm);
      const expected = explainsLog(log, operations);
      verdicts[expected ? 'sound' : 'unsound'] += 1;
      expect(checkRevisions({ log, operations }).length === 0).toBe(expected);
    }),
    { numRuns: 2_000 },
  );
  expect(verdicts.sound).toBeGreaterThan(60);
  expect(verdicts.unsound).toBeGreaterThan(60);
});

/** The history with one thing changed that may or may not make it impossible. */
function harmed(
  { log, operations }: Scene,
  harm: { place: number; kind: string; amount: number } | null,
): { log: readonly Commit[]; operations: readonly StoreOperation[] } {
  if (harm === null) return { log, operations };
  const { place, kind, amount } = harm;
  const changed = (change: (operation: StoreOperation) => StoreOperation) => ({
    log,
    operations: replaced(operations, place, change),
  });
  switch (kind) {
    case 'revision':
      return changed((one) =>
        one.outcome.kind === 'ok'
          ? told(one, { revision: one.outcome.answer.revision + amount })
          : one,
      );
    case 'results':
      return changed((one) =>
        one.outcome.kind === 'ok'
          ? told(one, {
              results: (one.outcome.answer.results ?? []).map((result) => {
                if (result.kind === 'delete')
                  return { kind: 'delete', deleted: 1 - result.deleted };
                if (result.kind === 'read')
                  return { kind: 'read', entry: log[0]?.changes[0]?.entry };
                return result;
              }),
            })
          : one,
      );
    case 'branch':
      return changed((one) =>
        one.outcome.kind === 'ok'
          ? told(one, { succeeded: !(one.outcome.answer.succeeded ?? true) })
          : one,
      );
    case 'invoked':
      return changed((one) => ({
        ...one,
        invoked: Math.min(one.invoked + amount * 3, one.returned),
      }));
    case 'returned':
      return changed((one) => ({
        ...one,
        returned: Math.max(one.returned + amount * 3, one.invoked),
      }));
    case 'refused':
      return changed((one) => ({ ...one, outcome: refused }));
    default:
      return { log: log.filter((_, index) => index !== log.length - 1 - place), operations };
  }
}
