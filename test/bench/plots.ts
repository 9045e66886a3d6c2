/** The plots of the documentation, from the results. */
import { mainFigure, type Result, resultText, type Unit } from './results.ts';
import { barChart, lineChart, type Series } from './svg.ts';
import { benchSystems } from './systems.ts';
import { casesOf } from './table.ts';

export type Plot = { readonly file: string; readonly caption: string; readonly svg: string };

const colors: Readonly<Record<string, string>> = {
  conclave: '#2f5fd0',
  etcd: '#2a9d8f',
  zookeeper: '#8d6cab',
  redis: '#d1495b',
  nats: '#e09f3e',
};
const otherColor = '#7a8190';
/** The row whose figures are drawn against the number of callers. */
const scaledWorkload = 'put';

const seriesOf = (name: string): Series => ({
  name: benchSystems.find((system) => system.name === name)?.title ?? name,
  color: colors[name] ?? otherColor,
});

/** Those for which there are figures. */
export function plotsOf(results: readonly Result[]): readonly Plot[] {
  return [
    barsOf(results, 'ops', 'speed-rates.svg', 'Operations per second: longer is better'),
    barsOf(results, 'ms', 'speed-times.svg', 'Milliseconds: shorter is better'),
    scalingOf(results),
  ].filter((plot) => plot !== undefined);
}

function barsOf(
  results: readonly Result[],
  unit: Unit,
  file: string,
  caption: string,
): Plot | undefined {
  const cases = casesOf(results.filter((result) => result[unit] !== undefined));
  if (cases.length === 0) return undefined;
  const names = [...new Set(cases.flat().map((result) => result.system))];
  const groups = cases.map((ofCase) => ({
    label: labelOf(ofCase),
    bars: ofCase.map((result) => ({
      series: seriesOf(result.system),
      value: mainFigure(result) ?? 0,
      text: resultText(result) ?? '',
    })),
  }));
  const title = `${caption}, logarithmic`;
  return { file, caption, svg: barChart({ title, series: names.map(seriesOf), groups }) };
}

function labelOf([first]: readonly Result[]): string {
  if (first === undefined) return '';
  const { title, concurrency, members } = first;
  const at = concurrency === 1 ? '' : `, ${concurrency.toLocaleString('en-US')}`;
  return `${title}${at}${members === 1 ? '' : `, ${members} members`}`;
}

function scalingOf(results: readonly Result[]): Plot | undefined {
  const scaled = results.filter(
    (result) => result.workload === scaledWorkload && result.members === 1,
  );
  const callers = [...new Set(scaled.map((result) => result.concurrency))].sort((a, b) => a - b);
  const names = [...new Set(scaled.map((result) => result.system))];
  const lines = names
    .map((name) => ({
      series: seriesOf(name),
      values: callers.map(
        (concurrency) =>
          scaled.find((one) => one.system === name && one.concurrency === concurrency)?.measured
            .operationsPerSecond,
      ),
    }))
    .filter((line) => line.values.filter((value) => value !== undefined).length > 1);
  if (lines.length === 0) return undefined;
  const caption = 'Puts per second by callers, one member';
  const places = callers.map((count) => count.toLocaleString('en-US'));
  const title = `${caption}, logarithmic`;
  const svg = lineChart({ title, places, placesTitle: 'callers', lines });
  return { file: 'speed-puts.svg', caption, svg };
}
