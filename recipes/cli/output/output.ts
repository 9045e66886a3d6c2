/** stdout is for data alone; everything else goes to stderr. */
import { usageError } from '../failure.ts';
import type { JsonObject } from './json.ts';
import { alignedTable, type Column, tabSeparated } from './table.ts';
import { compileTemplate } from './template.ts';
import { toYaml } from './yaml.ts';

type Mode =
  | { readonly kind: 'json' | 'jsonl' | 'yaml' | 'table' | 'tsv' | 'raw' }
  | { readonly kind: 'template'; readonly render: (row: JsonObject) => string };

/** How a kind of row is shown. */
export type View = {
  readonly columns: readonly Column[];
  /** What `-o raw` prints of a row: bytes and nothing else. @default the first column, with a newline */
  readonly raw?: (row: JsonObject) => Uint8Array | string;
};

const allowed = 'json, jsonl, yaml, table, tsv, raw or template=TEXT';

function parseMode(given: string | undefined): Mode {
  switch (given) {
    case undefined:
      return { kind: process.stdout.isTTY ? 'table' : 'tsv' };
    case 'json':
    case 'jsonl':
    case 'yaml':
    case 'table':
    case 'tsv':
    case 'raw':
      return { kind: given };
    default:
      if (given.startsWith('template=')) {
        return { kind: 'template', render: compileTemplate(given.slice('template='.length)) };
      }
      throw usageError(`cannot use '${given}' as --output: it must be ${allowed}`);
  }
}

const prettyJson = (document: JsonObject): string =>
  `${process.stdout.isTTY ? JSON.stringify(document, null, 2) : JSON.stringify(document)}\n`;

/** Resolves when the text was handed on, so that a slow reader slows us down. */
export async function writeOut(chunk: Uint8Array | string): Promise<void> {
  if (process.stdout.write(chunk)) return;
  await new Promise<void>((resolve) => process.stdout.once('drain', resolve));
}

const rawOf = (view: View, row: JsonObject): Uint8Array | string =>
  view.raw === undefined ? `${String(view.columns[0]?.of(row) ?? '')}\n` : view.raw(row);

export class Output {
  readonly #mode: Mode;

  /** @throws CliError when there is no such form */
  constructor(given: string | undefined) {
    this.#mode = parseMode(given);
  }

  /** A finished answer: `json` and `yaml` print the document, the other forms its rows. */
  async print(document: JsonObject, rows: readonly JsonObject[], view: View): Promise<void> {
    switch (this.#mode.kind) {
      case 'json':
        return await writeOut(prettyJson(document));
      case 'yaml':
        return await writeOut(toYaml(document));
      case 'table':
        return await writeOut(alignedTable(view.columns, rows));
      default:
        for (const row of rows) await this.row(row, view);
    }
  }

  /** An answer that is one row. */
  async printOne(document: JsonObject, view: View): Promise<void> {
    await this.print(document, [document], view);
  }

  /** One row of an answer that has no end yet: every form writes it at once. */
  async row(row: JsonObject, view: View): Promise<void> {
    switch (this.#mode.kind) {
      case 'json':
      case 'jsonl':
        return await writeOut(`${JSON.stringify(row)}\n`);
      case 'yaml':
        return await writeOut(`---\n${toYaml(row)}`);
      case 'table':
      case 'tsv':
        return await writeOut(tabSeparated(view.columns, row));
      case 'raw':
        return await writeOut(rawOf(view, row));
      case 'template':
        return await writeOut(this.#mode.render(row));
    }
  }
}
