/** Puts repeated measurements together and prints them side by side. */
import { type Measurement, median } from './measure.ts';
import { type RowName, rowNames, rowTitles } from './rows.ts';

export type Sample = Measurement & {
  readonly system: string;
  readonly row: RowName;
  readonly concurrency: number;
  readonly repetition: number;
  /** Processor time of the server, in microseconds for each operation. */
  readonly serverMicroseconds: number;
};

export type Summary = Measurement & {
  readonly system: string;
  readonly row: RowName;
  readonly concurrency: number;
  readonly serverMicroseconds: number;
  readonly repetitions: number;
};

const figures = [
  'operationsPerSecond',
  'p50Ms',
  'p99Ms',
  'clientMicroseconds',
  'serverMicroseconds',
] as const;

export function summarise(samples: readonly Sample[]): Summary[] {
  const groups = new Map<string, Sample[]>();
  for (const sample of samples) {
    const name = `${sample.system} ${sample.row} ${sample.concurrency}`;
    groups.set(name, [...(groups.get(name) ?? []), sample]);
  }
  return [...groups.values()].flatMap((group) => {
    const [first] = group;
    if (first === undefined) return [];
    const medians = Object.fromEntries(
      figures.map((figure) => [figure, median(group.map((sample) => sample[figure]))]),
    ) as Record<(typeof figures)[number], number>;
    const { system, row, concurrency } = first;
    return [{ system, row, concurrency, repetitions: group.length, ...medians }];
  });
}

export function printTable(summaries: readonly Summary[], systems: readonly string[]): void {
  const [first = ''] = systems;
  const find = (system: string, row: RowName, concurrency: number): Summary | undefined =>
    summaries.find(
      (one) => one.system === system && one.row === row && one.concurrency === concurrency,
    );
  const concurrencies = [...new Set(summaries.map((one) => one.concurrency))].sort((a, b) => a - b);
  const columns = systems.map((system) =>
    `${system} /s (p50, p99 ms; µs client+server)`.padEnd(52),
  );
  const ratios = systems.slice(1).map((system) => `${first} : ${system}`.padEnd(24));
  console.log(
    ['workload'.padEnd(18), 'at'.padStart(5), ...columns, ...ratios].join('  ').trimEnd(),
  );
  for (const row of rowNames)
    for (const concurrency of concurrencies) {
      const cells = systems.map((system) => cell(find(system, row, concurrency)).padEnd(52));
      const base = find(first, row, concurrency);
      if (systems.every((system) => find(system, row, concurrency) === undefined)) continue;
      const versus = systems.slice(1).map((system) => {
        const other = find(system, row, concurrency);
        if (base === undefined || other === undefined) return ''.padEnd(24);
        return `${(base.operationsPerSecond / other.operationsPerSecond).toFixed(2)}x`.padEnd(24);
      });
      const title = rowTitles[row].padEnd(18);
      console.log([title, `${concurrency}`.padStart(5), ...cells, ...versus].join('  ').trimEnd());
    }
}

function cell(summary: Summary | undefined): string {
  if (summary === undefined) return '-';
  const { operationsPerSecond, p50Ms, p99Ms, clientMicroseconds, serverMicroseconds } = summary;
  const rate = Math.round(operationsPerSecond).toLocaleString('en-US');
  const time = `${p50Ms.toPrecision(3)}, ${p99Ms.toPrecision(3)}`;
  const processor = `${clientMicroseconds.toFixed(0)}+${serverMicroseconds.toFixed(0)}`;
  return `${rate} (${time}; ${processor})`;
}
