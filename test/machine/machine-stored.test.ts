/** The suite of machine.test.ts on the states that ship. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openLmdbState } from '../../server/storage/lmdb.ts';
import { MemoryState } from '../../server/storage/memory.ts';
import { machineSuite } from './machine-suite.ts';

machineSuite('on the memory state', {
  open: async () => {
    const state = new MemoryState();
    return { state, close: () => state.close() };
  },
  runs: 60,
});

machineSuite('on LMDB', {
  open: async () => {
    const path = await mkdtemp(join(tmpdir(), 'conclave-machine-'));
    const failures: Error[] = [];
    const state = await openLmdbState({ path, onFailure: (error) => failures.push(error) });
    return {
      state,
      async close() {
        await state.close();
        await rm(path, { recursive: true });
        if (failures[0] !== undefined) throw failures[0];
      },
    };
  },
  runs: 30,
});
