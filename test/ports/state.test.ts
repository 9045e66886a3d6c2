import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openLmdbState } from '../../server/storage/lmdb.ts';
import { MemoryState } from '../../server/storage/memory.ts';
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
  async dispose() {},
});

async function lmdb(path: string): Promise<StateUnderTest> {
  const failures: Error[] = [];
  const state = await openLmdbState({ path, onFailure: (error) => failures.push(error) });
  return {
    state,
    async reopen() {
      await state.close();
      return lmdb(path);
    },
    async dispose() {
      await state.close();
      await rm(path, { recursive: true });
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
