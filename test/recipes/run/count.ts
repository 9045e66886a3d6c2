/** How many tests passed, from vitest's report. */

/** The part of vitest's JSON report that is used here. */
export type Report = {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly testResults: readonly {
    readonly status: string;
    readonly assertionResults: readonly { readonly status: string }[];
  }[];
};

export type Count = { readonly passed: number; readonly failed: number; readonly skipped: number };

/**
 * A file that fails outside its tests counts as one failure, and so does a run that fails without
 * any, such as one that ended early or found no test.
 */
export function count(report: Report | undefined, exitCode: number): Count {
  if (report === undefined) return { passed: 0, failed: 1, skipped: 0 };
  const brokenFiles = report.testResults.filter(
    ({ status, assertionResults }) =>
      status === 'failed' && !assertionResults.some((test) => test.status === 'failed'),
  );
  const failed = report.numFailedTests + brokenFiles.length;
  return {
    passed: report.numPassedTests,
    failed: failed === 0 && (exitCode !== 0 || report.numPassedTests === 0) ? 1 : failed,
    skipped: report.numPendingTests,
  };
}
