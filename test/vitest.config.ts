import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

const notTests = ['test/slow/**', 'dist/**', 'node_modules/**'];

export default defineConfig({
  test: {
    root: new URL('..', import.meta.url).pathname,
    testTimeout: 30_000,
    hookTimeout: 30_000,
    // vitest leaves a core free, and on two cores half of the time with it: many tests wait.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    projects: [
      {
        extends: true,
        test: {
          name: 'all but recipes',
          include: ['test/**/*.test.ts'],
          exclude: ['test/recipes/**', ...notTests],
        },
      },
      {
        extends: true,
        test: {
          name: 'recipes',
          include: ['test/recipes/**/*.test.ts'],
          exclude: notTests,
          // Each file has a store of its own; what it imports is the larger half of its cost.
          isolate: false,
        },
      },
    ],
  },
});
