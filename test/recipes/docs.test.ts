/** What the documentation shows compiles, runs, ends by itself and prints something. */
import { rm } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { storeMissing, useStore } from '../support/store.ts';
import { CompiledExamples, findExamples, folderInPackage } from './run/examples.ts';

const examples = await findExamples();
const pages = [...new Set(examples.map(({ page }) => page))];

describe.skipIf(storeMissing !== undefined)('the examples of the documentation', () => {
  const { store } = useStore();
  let directory: string;
  let compiled: CompiledExamples;
  beforeAll(async () => {
    directory = await folderInPackage();
    compiled = await CompiledExamples.compile(examples, directory);
  });
  afterAll(() => rm(directory, { recursive: true, force: true }));

  test('there are some, in every page that has its own', () => {
    expect(pages.length).toBeGreaterThan(10);
  });

  test('they compile with strict types', () => {
    expect(compiled.complaints).toBe('');
  });

  // Two pages at a time; the examples of one page, which may use the same names, one by one.
  const runs: Promise<void>[] = [];
  test.concurrent.each(pages.map((page, index) => [page, index] as const))(
    '%s shows what runs',
    { timeout: 90_000 },
    async (page, index) => {
      const run = Promise.allSettled([runs[index - 2]]).then(() => runPage(page));
      runs[index] = run;
      await run;
    },
  );

  async function runPage(page: string): Promise<void> {
    for (const example of examples.filter((other) => other.page === page)) {
      const output = await compiled.run(example, store().endpoints);
      expect(output, `${example.place} prints something`).not.toBe('');
    }
  }
});
