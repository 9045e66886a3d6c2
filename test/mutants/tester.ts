/**
 * Runs tests of the copy that it is started in, again and again: a program of its own beside each
 * workshop, so that what does not change from mutant to mutant is read once. It is told by its parent
 * which files have changed since the last time.
 */
import { createVitest } from 'vitest/node';

export type TestRequest = {
  readonly files: readonly string[];
  /** A pattern, as `vitest -t` takes it. */
  readonly names: string;
  /** Absolute paths. */
  readonly changed: readonly string[];
};

export type TestReport = {
  /** Names of tests. */
  readonly passed: number;
  readonly failed: readonly string[];
  /** What was not an outcome of a test: a file that could not be loaded, an error nobody handled. */
  readonly errors: readonly string[];
};

async function serve(): Promise<void> {
  const vitest = await createVitest('test', {
    config: 'test/vitest.config.ts',
    watch: false,
    pool: 'forks',
    // They need no loader: vitest reads TypeScript by itself.
    execArgv: [],
    reporters: [{}],
  });
  let running: Promise<void> = Promise.resolve();
  process.on('message', (request: TestRequest) => {
    running = running.then(async () => {
      const report = await run(request);
      process.send?.(report);
    });
  });
  process.on('disconnect', () => process.exit());
  process.send?.('ready');

  async function run({ files, names, changed }: TestRequest): Promise<TestReport> {
    for (const path of changed) vitest.invalidateFile(path);
    vitest.setGlobalTestNamePattern(new RegExp(names));
    const specifications = await vitest.globTestSpecifications([...files]);
    const { testModules, unhandledErrors } = await vitest.runTestSpecifications(specifications);
    const tests = testModules.flatMap((module) => [...module.children.allTests()]);
    const failed = tests.filter((test) => test.result().state === 'failed');
    return {
      passed: tests.filter((test) => test.result().state === 'passed').length,
      failed: failed.map((test) => {
        const [error] = test.result().errors ?? [];
        return `${test.module.relativeModuleId}: ${test.fullName}: ${error?.message}`;
      }),
      errors: [
        ...testModules.flatMap((module) => module.errors().map(({ message }) => message)),
        ...unhandledErrors.map(describe),
      ],
    };
  }
}

/** Errors of workers arrive as plain objects. */
const describe = (error: unknown): string =>
  typeof error === 'object' && error !== null && 'message' in error
    ? `${error.message}`
    : JSON.stringify(error);

await serve();
