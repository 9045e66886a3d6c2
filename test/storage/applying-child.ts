/**
 * Applies as fast as it can to a state of its own; every apply rewrites the same keys with its index.
 * Prints the durable index after each flush, and failures as they are reported.
 */
import { openLmdbState } from '../../server/storage/lmdb.ts';

const [path = '', rounds = '1000000'] = process.argv.slice(2);
const state = await openLmdbState({
  path,
  onFailure: (error) => process.stdout.write(`failure ${error.name}\n`),
});
for (let round = 0; round < Number(rounds); round++) {
  const index = state.appliedIndex + 1;
  const value = Buffer.from(String(index));
  state.apply(
    index,
    Array.from({ length: 20 }, (_, number) => ({
      kind: 'put' as const,
      key: Buffer.from(`key-${number}`),
      value,
    })),
  );
  try {
    await state.flush();
    process.stdout.write(`durable ${state.durableIndex}\n`);
  } catch (error) {
    process.stdout.write(`rejected ${error instanceof Error ? error.name : ''}\n`);
  }
}
// What must not happen is that the file is closed properly after a failure.
process.abort();
