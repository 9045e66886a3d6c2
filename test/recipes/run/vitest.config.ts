import { defineConfig } from 'vitest/config';
import everything from '../../vitest.config.ts';

const { projects: _projects, ...test } = everything.test ?? {};

export default defineConfig({
  test: {
    ...test,
    include: ['test/recipes/**/*.test.ts'],
    isolate: false,
    globalSetup: 'test/recipes/run/shared-stores.ts',
  },
});
