/** Writes the figures of a run into the documentation: the table between its markers, plots beside it. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { projectRoot } from '../support/servers.ts';
import { plotsOf } from './plots.ts';
import type { Line } from './report.ts';
import { benchSystem } from './systems.ts';
import { asMarkdown, coldTableOf, tableOf } from './table.ts';

const folder = join(projectRoot, 'server/docs');
const page = join(folder, 'speed.md');
const begin = '<!-- begin: written by npm run bench -- --publish -->';
const end = '<!-- end -->';

/** @throws Error when the run was quick, or the page has no place for the figures */
export function publish(lines: readonly Line[]): void {
  if (lines.some((line) => line.isQuick))
    throw new Error('--publish: figures of --quick say too little to be published');
  const plots = plotsOf(lines);
  for (const { file, svg } of plots) writeFileSync(join(folder, file), svg);
  const images = plots.map(({ file, caption }) => `![${caption}](${file})`);
  const content = [
    circumstances(lines),
    asMarkdown(tableOf(lines)),
    cold(lines),
    asMarkdown(coldTableOf(lines)),
    systems(lines),
    ...images,
  ];
  writeFileSync(page, putBetween(readFileSync(page, 'utf8'), content.join('\n\n')));
  console.log(`written: ${page} and ${plots.length} plots`);
}

export function putBetween(text: string, content: string): string {
  const from = text.indexOf(begin);
  const to = text.indexOf(end, from);
  if (from < 0 || to < 0) throw new Error(`${page} must have ${begin} and ${end}`);
  return `${text.slice(0, from + begin.length)}\n\n${content}\n\n${text.slice(to)}`;
}

function circumstances([first]: readonly Line[]): string {
  if (first === undefined) throw new Error('there are no figures to publish');
  const { date, machine, durationMs, warmUpMs, othersBusyPercent, repetitions } = first;
  return [
    `Measured on ${date.slice(0, 10)}: ${machine}, servers and clients on the same processors, of`,
    `which other programs took ${othersBusyPercent} % before the run. Medians of ${repetitions} interleaved`,
    `repetitions of ${durationMs} ms, after at least ${warmUpMs} ms of warm-up.`,
  ].join('\n');
}

function cold([first]: readonly Line[]): string {
  return [
    '**Cold**: the same rows of the same run, as they were before that warm-up, for',
    `${first?.durationMs} ms from the moment that everything ran. No goal is judged by these.`,
  ].join('\n');
}

function systems(lines: readonly Line[]): string {
  const named = new Map(lines.map((line) => [line.system, line]));
  return [
    '| | versions | an acknowledged write is |',
    '|-|-|-|',
    ...[...named].map(
      ([name, { version, durability }]) =>
        `| ${benchSystem(name).title} | ${version} | ${durability} |`,
    ),
  ].join('\n');
}
