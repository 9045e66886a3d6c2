import { usageError } from '../failure.ts';
import type { Json, JsonObject } from './json.ts';

const escapes: Readonly<Record<string, string>> = { n: '\n', t: '\t', '0': '\0', '\\': '\\' };

function lookUp(row: JsonObject, path: string): string {
  let value: Json = row;
  for (const name of path.split('.')) {
    const known = typeof value === 'object' && value !== null && name in value;
    if (!known) {
      const fields =
        typeof value === 'object' && value !== null ? Object.keys(value).join(', ') : 'no fields';
      throw usageError(`the template's {{${path}}} does not exist: '${name}' is none of ${fields}`);
    }
    value = (value as JsonObject)[name] ?? null;
  }
  if (value === null) return '';
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

/**
 * Fills `{{field}}` and `{{field.inner}}` from each row; `\n`, `\t`, `\0` and `\\` are escapes. A line
 * ends after each row unless the template ends it itself.
 */
export function compileTemplate(source: string): (row: JsonObject) => string {
  const text = source.replaceAll(
    /\\([nt0\\])/g,
    (_, character: string) => escapes[character] ?? '',
  );
  const ended = /[\n\0]$/.test(text) ? text : `${text}\n`;
  return (row) =>
    ended.replaceAll(/\{\{\s*([\w.]+)\s*\}\}/g, (_, path: string) => lookUp(row, path));
}
