import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { LogPosition, Write } from '../../server/ports.ts';
import { openLmdbState } from '../../server/storage/lmdb.ts';
import { MemoryState } from '../../server/storage/memory.ts';
import { receivedFile } from '../storage/received.ts';
import { describeState, type StateUnderTest } from './state.ts';

const memory = (state: MemoryState): StateUnderTest => ({
  state,
  async reopen() {
    await state.close();
    state.crash();
    return memory(state);
  },
  async crash() {
    state.crash();
    return memory(state);
  },
  async received(applied: LogPosition, writes: readonly Write[], announced = applied) {
    const sender = new MemoryState();
    sender.apply(applied.index, writes, applied.term);
    const bytes = sender.copy();
    return {
      ...announced,
      sizeBytes: bytes.length,
      content: { kind: 'memory', bytes },
      async discard() {},
    };
  },
  async dispose() {},
});

/** `base` holds the state under test and what is received for it. */
async function lmdb(base: string): Promise<StateUnderTest> {
  const failures: Error[] = [];
  const path = join(base, 'state');
  const state = await openLmdbState({ path, onFailure: (error) => failures.push(error) });
  return {
    state,
    async reopen() {
      await state.close();
      return lmdb(base);
    },
    async received(applied, writes, announced = applied) {
      const directory = await mkdtemp(join(base, 'received-'));
      return receivedFile(directory, applied, writes, announced);
    },
    async dispose() {
      await state.close();
      await rm(base, { recursive: true });
      if (failures[0] !== undefined) throw failures[0];
    },
  };
}

describeState('MemoryState', async () => memory(new MemoryState()), { runs: 300 });
describeState(
  'the state on LMDB',
  async () => lmdb(await mkdtemp(join(tmpdir(), 'conclave-state-'))),
  { runs: 60 },
);
