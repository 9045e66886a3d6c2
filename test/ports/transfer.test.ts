import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openInbox } from '../../server/storage/inbox.ts';
import { openLmdbState } from '../../server/storage/lmdb.ts';
import { MemoryState } from '../../server/storage/memory.ts';
import { MemoryInbox, MemoryOutbox } from '../../server/storage/memory-transfer.ts';
import { Outbox } from '../../server/storage/outbox.ts';
import { configurationOf, describeTransfer, type TransferUnderTest } from './transfer.ts';

describeTransfer(
  'transfers in memory',
  async () => {
    const state = new MemoryState();
    return {
      state,
      outbox: new MemoryOutbox(state, configurationOf),
      inbox: new MemoryInbox(),
      receiver: new MemoryState(),
      restartInbox: async () => {},
      dispose: async () => {},
    };
  },
  { runs: 50 },
);

describeTransfer(
  'transfers on disk',
  async () => {
    const base = await mkdtemp(join(tmpdir(), 'conclave-transfer-'));
    const onFailure = (error: Error): void => {
      throw error;
    };
    const state = await openLmdbState({ path: join(base, 'sender'), onFailure });
    const receiver = await openLmdbState({ path: join(base, 'receiver'), onFailure });
    const outbox = new Outbox({ state, configurationOf, directory: join(base, 'outbox') });
    const directory = join(base, 'inbox');
    const transfer: TransferUnderTest = {
      state,
      outbox,
      inbox: await openInbox({ directory }),
      receiver,
      async restartInbox() {
        await transfer.inbox.close();
        transfer.inbox = await openInbox({ directory });
      },
      async dispose() {
        await transfer.inbox.close();
        await outbox.close();
        await state.close();
        await receiver.close();
        await rm(base, { recursive: true });
      },
    };
    return transfer;
  },
  { runs: 20 },
);
