/**
 * The state machine against the reference model, on any `State`: random commands, reads, restarts and
 * compaction steps, everything compared.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Command } from '../../server/command.ts';
import { runToEnd } from '../../server/mvcc/range.ts';
import type { RangeRequest, TxnRequest } from '../../server/mvcc/types.ts';
import { validateTxn } from '../../server/mvcc/validate.ts';
import type { State } from '../../server/ports.ts';
import { Model } from '../mvcc/model.ts';
import { plain, text } from '../support/plain.ts';
import { command, range, readOnlyTxn, term, txn } from './arbitraries.ts';
import { everything } from './requests.ts';
import { MAX_TXN_OPS, MIN_TTL_SECONDS, Rig } from './rig.ts';

export type Step =
  | { readonly kind: 'command'; readonly term: number; readonly command: Command }
  | { readonly kind: 'range'; readonly request: RangeRequest }
  | { readonly kind: 'read-txn'; readonly request: TxnRequest }
  | { readonly kind: 'history'; readonly from: number; readonly maxRevisions: number }
  | { readonly kind: 'compaction-step' }
  | { readonly kind: 'restart' };

export const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 10, arbitrary: fc.record({ kind: fc.constant('command' as const), term, command }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('range' as const), request: range }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('read-txn' as const), request: readOnlyTxn }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('history' as const),
      from: fc.integer({ min: 0, max: 30 }),
      maxRevisions: fc.integer({ min: 1, max: 5 }),
    }),
  },
  { weight: 2, arbitrary: fc.constant({ kind: 'compaction-step' as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'restart' as const }) },
);

function takeStep(rig: Rig, model: Model, taken: Step): void {
  switch (taken.kind) {
    case 'command': {
      const fault =
        taken.command.kind === 'txn' ? validateTxn(taken.command, MAX_TXN_OPS) : undefined;
      const applied = rig.apply(taken.command, taken.term);
      if (fault !== undefined) {
        expect(applied.result).toEqual({ kind: 'fault', code: fault, revision: model.revision });
        expect(applied.events).toEqual([]);
        return;
      }
      const expected = model.apply(taken.term, taken.command);
      expect(plain(applied.result)).toEqual(expected.result);
      expect(plain(applied.events)).toEqual(expected.events);
      applied.events.forEach(({ kv }, index) => {
        const event = expected.events[index];
        expect(plain(rig.machine.previous(rig.state, kv))).toEqual(event && model.previous(event));
      });
      return;
    }
    case 'range':
      expect(rig.range(taken.request)).toEqual(model.range(taken.request));
      return;
    case 'read-txn':
      expect(rig.readTxn(taken.request)).toEqual(model.readTxn(taken.request));
      return;
    case 'history': {
      const from = Math.max(taken.from, rig.machine.compactRevision);
      const bounds = { maxRevisions: taken.maxRevisions, maxBytes: 1 << 20 };
      const history = rig.machine.history(rig.state, from, bounds);
      const expected = model.history(from).slice(0, taken.maxRevisions);
      expect(plain(history)).toEqual(expected);
      history.forEach(({ events }, at) => {
        events.forEach(({ kv }, index) => {
          const event = expected[at]?.events[index];
          expect(plain(rig.machine.previous(rig.state, kv))).toEqual(
            event && model.previous(event),
          );
        });
      });
      return;
    }
    case 'compaction-step':
      rig.compactionStep();
      return;
    case 'restart':
      rig.restart();
      return;
  }
}

function compareFacts(rig: Rig, model: Model): void {
  const { machine, state } = rig;
  expect(machine.revision).toBe(model.revision);
  expect(machine.compactRevision).toBe(model.compactRevision);
  expect(new Set(machine.leases.list(0).map(({ id }) => id))).toEqual(new Set(model.leases.keys()));
  for (const [id, ttlSeconds] of model.leases) {
    expect(machine.leases.ttlSeconds(id)).toBe(ttlSeconds);
    expect(machine.leaseKeys(state, id).map(text)).toEqual(model.leaseKeys(id));
  }
  const sorted = [...model.alarms].sort((a, b) => Number(a.memberId - b.memberId));
  expect(new Set(machine.alarms)).toEqual(new Set(sorted));
  expect(machine.members).toEqual(
    [...model.members.values()].sort((a, b) =>
      BigInt(a['id'] as bigint) < (b['id'] as bigint) ? -1 : 1,
    ),
  );
}

export type SuiteOptions = {
  /** An empty state, and how to dispose of it. */
  readonly open: () => Promise<{ readonly state: State; close(): Promise<void> }>;
  /** Random sequences per property. */
  readonly runs: number;
};

export function machineSuite(name: string, { open, runs }: SuiteOptions): void {
  const withState = async (use: (state: State) => void): Promise<void> => {
    const { state, close } = await open();
    try {
      use(state);
    } finally {
      await close();
    }
  };
  const steps = fc.array(step, { minLength: 1, maxLength: 60, size: 'max' });

  test(`${name}: agrees with the model over random histories`, async () => {
    await fc.assert(
      fc.asyncProperty(steps, fc.integer({ min: 1, max: 4 }), (taken, stepRecords) =>
        withState((state) => {
          const rig = new Rig(state, {
            compactionStepRecords: stepRecords,
            creationOrders: { minKeys: 1 },
          });
          const model = new Model(MIN_TTL_SECONDS);
          for (const one of taken) takeStep(rig, model, one);
          compareFacts(rig, model);
          const readable = Math.max(rig.machine.compactRevision, 1);
          for (let revision = readable; revision <= model.revision; revision += 1) {
            const request = { ...everything, revision };
            expect(rig.range(request)).toEqual(model.range(request));
          }
        }),
      ),
      { numRuns: runs },
    );
  });

  test(`${name}: compaction removes what is below and changes nothing above`, async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(command, txn), { minLength: 5, maxLength: 40, size: 'max' }),
        fc.array(fc.nat({ max: 100 }), { minLength: 1, maxLength: 3 }),
        fc.integer({ min: 1, max: 3 }),
        (commands, percents, stepRecords) =>
          withState((state) => {
            const rig = new Rig(state, {
              compactionStepRecords: stepRecords,
              creationOrders: { minKeys: 1 },
            });
            const model = new Model(MIN_TTL_SECONDS);
            for (const one of commands) {
              if (one.kind === 'compact') continue;
              if (one.kind === 'txn' && validateTxn(one, MAX_TXN_OPS) !== undefined) continue;
              rig.apply(one);
              model.apply(1, one);
            }
            for (const percent of percents) {
              const revision = Math.floor((model.revision * percent) / 100);
              rig.apply({ kind: 'compact', revision, physical: false });
              model.apply(1, { kind: 'compact', revision, physical: false });
              for (let done = false; !done; ) {
                done = rig.compactionStep();
                for (let at = 1; at <= model.revision; at += 1) {
                  const request = { ...everything, revision: at };
                  expect(rig.range(request)).toEqual(model.range(request));
                }
                const from = Math.max(0, model.compactRevision);
                const bounds = { maxRevisions: 1000, maxBytes: 1 << 20 };
                expect(plain(rig.machine.history(state, from, bounds))).toEqual(
                  model.history(from),
                );
              }
              expect(rig.machine.physicallyCompactedRevision).toBe(rig.machine.compactRevision);
            }
          }),
      ),
      { numRuns: runs },
    );
  });

  test(`${name}: the checksum does not depend on physical compaction`, async () => {
    await fc.assert(
      fc.asyncProperty(steps, (taken) =>
        withState((state) => {
          const rig = new Rig(state, { compactionStepRecords: 1, creationOrders: { minKeys: 1 } });
          for (const one of taken) {
            if (one.kind === 'command') rig.apply(one.command, one.term);
          }
          const revisions = [rig.machine.revision, Math.max(1, rig.machine.compactRevision)];
          const hashes = (): unknown[] => revisions.map((revision) => rig.hash(revision));
          const total = (): number => runToEnd(rig.machine.hash(state));
          const before = { hashes: hashes(), total: total() };
          for (let done = false; !done; ) {
            done = rig.compactionStep();
            expect(hashes()).toEqual(before.hashes);
          }
          expect(total()).toBe(before.total);
        }),
      ),
      { numRuns: Math.ceil(runs / 2) },
    );
  });
}
