import { expect, test } from 'vitest';
import { limits } from '../../server/limits.ts';
import { LogRetention, type LogRetentionOptions } from '../../server/log-retention.ts';

class Rig {
  members = 3;
  appliedIndex = 0;
  durableIndex = 0;
  /** Of the memory, and of the disk. */
  memory = 0;
  disk = 0;
  readonly retention: LogRetention;

  constructor(catchUpEntries: number) {
    const rig = this;
    // Only what is asked of them.
    const options = {
      replica: {
        machine: {
          get members() {
            return Array.from({ length: rig.members });
          },
        },
        release: (index: number) => {
          rig.memory = Math.max(rig.memory, index);
        },
      },
      log: {
        release: async (index: number) => {
          rig.disk = index;
        },
      },
      state: {
        get appliedIndex() {
          return rig.appliedIndex;
        },
        get durableIndex() {
          return rig.durableIndex;
        },
      },
      snapshotCount: 10_000,
      catchUpEntries,
    };
    this.retention = new LogRetention(options as unknown as LogRetentionOptions);
  }

  at(index: number): this {
    this.appliedIndex = index;
    this.durableIndex = index;
    return this;
  }
}

test('entries stay for members that are behind, and until the state is durable', async () => {
  const rig = new Rig(1_000).at(5_000);
  await rig.retention.release(0);
  expect([rig.memory, rig.disk]).toEqual([4_000, 4_000]);
  rig.appliedIndex = 9_000;
  await rig.retention.release(0);
  expect(rig.memory).toBe(5_000);
});

test('a member on its own keeps nothing for others', async () => {
  const rig = new Rig(1_000).at(5_000);
  rig.members = 1;
  await rig.retention.release(0);
  expect(rig.memory).toBe(5_000);
});

test('the disk is released in pieces worth the effort', async () => {
  const rig = new Rig(0).at(600);
  await rig.retention.release(0);
  expect(rig.disk).toBe(600);
  rig.at(1_000);
  await rig.retention.release(0);
  expect([rig.memory, rig.disk]).toEqual([1_000, 600]);
});

test('many large entries stay no longer than their bytes allow', async () => {
  const rig = new Rig(5_000);
  const data = new Uint8Array(limits.catchUpBytes / 32);
  const entries = (from: number, to: number) =>
    Array.from({ length: to - from + 1 }, (_, offset) => ({
      index: from + offset,
      term: 1,
      kind: 'command' as const,
      data,
    }));
  rig.retention.stored(entries(1, 20));
  await rig.at(20).retention.release(0);
  expect(rig.memory).toBe(0);
  rig.retention.stored(entries(21, 60));
  await rig.at(60).retention.release(0);
  expect(rig.memory).toBe(28);
  // Another leader replaced the tail: what was cut off is not what is kept.
  rig.retention.stored(entries(41, 61));
  await rig.at(61).retention.release(0);
  expect(rig.memory).toBeGreaterThanOrEqual(29);
});

test('what follows a copy stays until its receiver had time to take it up', async () => {
  const rig = new Rig(0).at(2_000);
  rig.retention.hold(7n, 1_500);
  await rig.retention.release(0);
  expect(rig.memory).toBe(1_500);
  rig.at(9_000);
  await rig.retention.release(60_000);
  expect(rig.memory).toBe(1_500);
  rig.retention.letGo(7n, 60_000);
  await rig.retention.release(90_000);
  expect(rig.memory).toBe(1_500);
  await rig.retention.release(90_001);
  expect([rig.memory, rig.disk]).toEqual([9_000, 9_000]);
});
