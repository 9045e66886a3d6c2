/**
 * The runner of the suites outside `npm test`: named checks against real processes, one line each,
 * and a last line `N passed, N failed`. A check that cannot run here is a failure in CI, where
 * everything it needs is expected to be present.
 */

/** Thrown by a check to say why it cannot run on this machine. */
export class Skip extends Error {
  override name = 'Skip';
}

export class Suite {
  readonly name: string;
  #passed = 0;
  #failed = 0;
  #skipped = 0;

  constructor(name: string) {
    this.name = name;
  }

  get failed(): number {
    return this.#failed;
  }

  /** Runs one check. A rejection is its failure. */
  async check(name: string, run: () => Promise<unknown> | unknown): Promise<boolean> {
    const startMs = performance.now();
    try {
      await run();
    } catch (error) {
      if (error instanceof Skip && process.env['CI'] === undefined) {
        this.#skipped += 1;
        console.log(`  skip ${name}: ${error.message}`);
        return false;
      }
      this.fail(name, error);
      return false;
    }
    this.pass(name, performance.now() - startMs);
    return true;
  }

  pass(name: string, elapsedMs?: number): void {
    this.#passed += 1;
    const time = elapsedMs === undefined ? '' : ` (${Math.round(elapsedMs)} ms)`;
    console.log(`  ok   ${name}${time}`);
  }

  fail(name: string, error: unknown): void {
    this.#failed += 1;
    console.log(`  FAIL ${name}`);
    console.log(indent(describe(error)));
  }

  /** Prints the last line and ends the process with the outcome. */
  finish(): never {
    const skipped = this.#skipped === 0 ? '' : `, ${this.#skipped} skipped`;
    console.log(`${this.name}: ${this.#passed} passed, ${this.#failed} failed${skipped}`);
    process.exit(this.#failed === 0 && this.#passed > 0 ? 0 : 1);
  }
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause === undefined ? '' : `\ncaused by ${describe(error.cause)}`;
  return `${error.stack ?? error.message}${cause}`;
}

function indent(text: string): string {
  return text.replace(/^/gm, '       ');
}
