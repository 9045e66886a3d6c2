import { defineConfig } from 'vitest/config';
import everything from '../../vitest.config.ts';

export default defineConfig({
  ...everything,
  test: { ...everything.test, include: ['test/recipes/**/*.test.ts'] },
});
