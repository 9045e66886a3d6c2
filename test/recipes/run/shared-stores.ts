/**
 * A store of several processes takes longer to start than most files of tests take to run. So here
 * each worker gets one for all of its files, which it runs one after another: whatever a file does,
 * compactions included, no other file runs on the same store meanwhile. What it finds there is what
 * earlier files have left: revisions, and keys under other names.
 *
 * Who needs more than that asks for a store of its own with `useOwnStore` or `startStore`.
 */
import type { TestProject } from 'vitest/node';
import { TestCluster } from '../../support/servers.ts';
import {
  isInProcess,
  storeMembers,
  storeMissing,
  storeSystem,
} from '../../support/store-choice.ts';

export default async function startSharedStores(
  project: TestProject,
): Promise<(() => Promise<void>) | undefined> {
  if (isInProcess || storeMissing !== undefined) return undefined;
  const workers = Array.from({ length: project.vitest.config.maxWorkers });
  const clusters = await Promise.all(
    workers.map(() => TestCluster.start(storeSystem, storeMembers, { inMemory: true })),
  );
  project.provide(
    'sharedStores',
    clusters.map(({ servers }) => servers.map(({ endpoint }) => endpoint)),
  );
  return async () => {
    await Promise.all(clusters.map((cluster) => cluster.discard()));
  };
}
