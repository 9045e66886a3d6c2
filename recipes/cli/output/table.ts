import { styleText } from 'node:util';
import type { JsonObject } from './json.ts';
import { cell } from './text.ts';

/** What one column of a table shows of a row. */
export type Column = {
  readonly title: string;
  readonly of: (row: JsonObject) => string | number | boolean | null | undefined;
};

/** A column that shows a field of the row as it is. */
export const field = (title: string, name: string): Column => ({
  title,
  of: (row) => {
    const value = row[name];
    if (value === undefined || value === null) return '';
    return typeof value === 'object' ? JSON.stringify(value) : value;
  },
});

const cellsOf = (columns: readonly Column[], row: JsonObject): string[] =>
  columns.map((column) => cell(String(column.of(row) ?? '')));

/** One tab-separated line, without decoration, for programs. */
export const tabSeparated = (columns: readonly Column[], row: JsonObject): string =>
  `${cellsOf(columns, row).join('\t')}\n`;

/** Columns a terminal gives to a text; wide characters take two. */
function width(text: string): number {
  let columns = 0;
  for (const character of text) {
    if (/\p{Mn}/u.test(character)) continue;
    const wide =
      /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Emoji_Presentation}/u;
    columns += wide.test(character) ? 2 : 1;
  }
  return columns;
}

const pad = (text: string, to: number): string => text + ' '.repeat(Math.max(0, to - width(text)));

const header = (text: string): string => styleText('bold', text, { stream: process.stdout });

/** Aligned columns under a header, for people. */
export function alignedTable(columns: readonly Column[], rows: readonly JsonObject[]): string {
  if (rows.length === 0) return '';
  const cells = rows.map((row) => cellsOf(columns, row));
  const widths = columns.map((column, index) =>
    Math.max(width(column.title), ...cells.map((line) => width(line[index] ?? ''))),
  );
  const line = (texts: readonly string[]): string =>
    texts
      .map((text, index) => (index === texts.length - 1 ? text : pad(text, widths[index] ?? 0)))
      .join('  ');
  const title = header(line(columns.map((column) => column.title)));
  return `${[title, ...cells.map(line)].join('\n')}\n`;
}
