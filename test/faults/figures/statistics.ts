/** Summaries of measured times. */
export type Summary = {
  readonly count: number;
  readonly median: number;
  readonly p90: number;
  readonly p99: number;
  readonly worst: number;
};

export function summarise(values: readonly number[]): Summary {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number): number =>
    sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
  return {
    count: sorted.length,
    ...{ median: at(0.5), p90: at(0.9), p99: at(0.99), worst: sorted.at(-1) ?? Number.NaN },
  };
}

/** Columns of equal width, the first to the left and numbers to the right. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  );
  return rows
    .map((row) =>
      row
        .map((cell, column) =>
          column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
        )
        .join('  '),
    )
    .join('\n');
}
