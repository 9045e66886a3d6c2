import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    root: new URL('..', import.meta.url).pathname,
    include: ['test/**/*.test.ts'],
    exclude: ['test/slow/**', 'dist/**', 'node_modules/**'],
    testTimeout: 30_000,
    hookTimeout: 30_000,
    maxConcurrency: 2,
    // vitest leaves a core free, and on two cores half of the time with it: many tests wait.
    maxWorkers: Math.max(2, availableParallelism() - 1),
  },
});
