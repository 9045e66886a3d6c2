import { expect, test } from 'vitest';
import { Installation } from '../../server/installation.ts';
import { MemoryDirectory } from '../../server/storage/memory-directory.ts';
import type { ReceivedSnapshot } from '../../server/storage/transfer.ts';

const hardState = { term: 3, votedFor: 0n, commit: 7 };
const entry = { index: 8, term: 3, kind: 'no-op', data: new Uint8Array() } as const;

/** Ports that say in which order they were called; each call ends when the test says so. */
function rig() {
  const calls: string[] = [];
  const ends: (() => void)[] = [];
  const called = (name: string): Promise<void> => {
    calls.push(name);
    return new Promise((resolve) => ends.push(resolve));
  };
  const { log, state } = new MemoryDirectory();
  state.install = () => called('install');
  log.reset = ({ index, term }) => called(`reset ${index}/${term}`);
  log.append = ({ entries }) => called(`append ${entries.map(({ index }) => index).join()}`);
  const next = async () => {
    ends.shift()?.();
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { installation: new Installation({ log, state }), calls, next };
}

function received(index: number, discarded: number[] = []): ReceivedSnapshot {
  return {
    index,
    term: 3,
    sizeBytes: 0,
    content: { kind: 'memory', bytes: new Uint8Array() },
    discard: async () => {
      discarded.push(index);
    },
  };
}

test('the state comes first, then the log behind it, then what is already known to follow', async () => {
  const { installation, calls, next } = rig();
  installation.offer(received(7));
  const running = installation.run({ index: 7, term: 3 }, { hardState, entries: [entry] });
  expect(calls).toEqual(['install']);
  await next();
  expect(calls).toEqual(['install', 'reset 7/3']);
  await next();
  expect(calls).toEqual(['install', 'reset 7/3', 'append 8']);
  await next();
  await running;
});

test('readers know that it runs, wait for its end, and find another generation', async () => {
  const { installation, next } = rig();
  const { generation } = installation;
  await installation.ended;
  installation.offer(received(7));
  const running = installation.run({ index: 7, term: 3 }, { hardState, entries: [] });
  expect(installation.isRunning).toBe(true);
  expect(installation.generation).not.toBe(generation);
  let ended = false;
  const waiting = installation.ended.then(() => {
    ended = true;
  });
  await next();
  await next();
  await running;
  expect(ended).toBe(false);
  installation.end();
  await waiting;
  expect(installation.isRunning).toBe(false);
});

test('one that follows before the last has ended keeps readers waiting', async () => {
  const { installation, next } = rig();
  const install = async (index: number): Promise<void> => {
    installation.offer(received(index));
    const running = installation.run({ index, term: 3 }, { hardState, entries: [] });
    await next();
    await next();
    await running;
  };
  await install(7);
  const waiting = installation.ended;
  let ended = false;
  void waiting.then(() => {
    ended = true;
  });
  const second = install(9);
  installation.end();
  await second;
  expect({ ended, isRunning: installation.isRunning }).toEqual({ ended: false, isRunning: true });
  installation.end();
  await waiting;
  expect(installation.isRunning).toBe(false);
});

test('what Raft did not need makes way for the next', async () => {
  const { installation } = rig();
  const discarded: number[] = [];
  installation.offer(received(7, discarded));
  installation.offer(received(9, discarded));
  expect(discarded).toEqual([7]);
  await expect(installation.run({ index: 7, term: 3 }, { hardState, entries: [] })).rejects.toThrow(
    'invariant',
  );
});
