/** The tables: a line for each case, a column for each system. */
import { coldText, type Result, resultText, titleOf } from './results.ts';
import { benchSystem, benchSystems, ownSystem } from './systems.ts';

export type Table = {
  readonly head: readonly string[];
  readonly lines: readonly (readonly string[])[];
};

export function tableOf(results: readonly Result[]): Table {
  const systems = systemsIn(results);
  return {
    head: [...caseHead, ...systems.map(headOf), 'to the best', 'goal', 'met'],
    lines: casesOf(results).map((ofCase) => {
      const own = ofCase.find((result) => result.system === ownSystem.name);
      return [
        ...caseCells(ofCase),
        ...systems.map((system) => cell(ofCase.find((result) => result.system === system))),
        own?.ratio === undefined ? '' : `${ratioText(own.ratio)} ${titleOf(own.ratioTo ?? '')}`,
        own?.goal ?? '',
        own?.isMet === undefined ? '' : own.isMet ? 'yes' : 'no',
      ];
    }),
  };
}

/** What the rows show of processes that have just been started, where that is something else. */
export function coldTableOf(results: readonly Result[]): Table {
  const cases = casesOf(results.filter((result) => result.cold !== undefined));
  const systems = systemsIn(cases.flat());
  return {
    head: [...caseHead, ...systems.map(headOf)],
    lines: cases.map((ofCase) => [
      ...caseCells(ofCase),
      ...systems.map((system) => {
        const result = ofCase.find((one) => one.system === system);
        return (result && coldText(result)) ?? '';
      }),
    ]),
  };
}

const caseHead = ['workload', 'at', 'members'];

function caseCells([first]: readonly Result[]): readonly string[] {
  if (first === undefined) return caseHead.map(() => '');
  return [first.title, first.concurrency.toLocaleString('en-US'), `${first.members}`];
}

function systemsIn(results: readonly Result[]): readonly string[] {
  const present = new Set(results.map((result) => result.system));
  return benchSystems.map((system) => system.name).filter((name) => present.has(name));
}

const headOf = (name: string): string => benchSystem(name).title;

/** The results of each case, in the order of the table. */
export function casesOf(results: readonly Result[]): readonly (readonly Result[])[] {
  const cases = new Map<string, Result[]>();
  for (const result of results) {
    const name = `${result.workload} ${result.concurrency} ${result.members}`;
    cases.set(name, [...(cases.get(name) ?? []), result]);
  }
  return [...cases.values()];
}

function cell(result: Result | undefined): string {
  if (result === undefined) return '';
  const text = resultText(result);
  if (text === undefined) return result.skipped === 'failed' ? 'failed' : 'skipped';
  return result.remark === undefined ? text : `${text} (${result.remark})`;
}

const ratioText = (ratio: number): string => `${ratio.toFixed(ratio < 10 ? 2 : 1)}x`;

export function asText({ head, lines }: Table): string {
  const widths = head.map((title, column) =>
    Math.max(title.length, ...lines.map((line) => line[column]?.length ?? 0)),
  );
  return [head, ...lines]
    .map((line) => line.map((text, column) => text.padEnd(widths[column] ?? 0)).join('  '))
    .map((line) => line.trimEnd())
    .join('\n');
}

export function asMarkdown({ head, lines }: Table): string {
  const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const rule = head.map((_, column) => (column === 0 ? '-' : '-:'));
  return [row(head), row(rule), ...lines.map(row)].join('\n');
}
