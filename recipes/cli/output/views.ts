/** The views that several verbs share. */
import type { JsonObject } from './json.ts';
import type { View } from './output.ts';
import { type Column, field } from './table.ts';

const base64 = (row: JsonObject, name: string): Buffer | undefined => {
  const encoded = row[`${name}Base64`];
  return typeof encoded === 'string' ? Buffer.from(encoded, 'base64') : undefined;
};

/** The exact bytes of a field that may have been no UTF-8. */
export const bytesOf = (row: JsonObject, name: string): Buffer =>
  base64(row, name) ?? Buffer.from(String(row[name] ?? ''));

/** Text, or base64 with a mark. */
export const bytesColumn = (title: string, name: string): Column => ({
  title,
  of: (row) => {
    const encoded = row[`${name}Base64`];
    return typeof encoded === 'string' ? `base64:${encoded}` : (row[name] as string | null);
  },
});

export const keyValueView: View = {
  columns: [
    bytesColumn('KEY', 'key'),
    bytesColumn('VALUE', 'value'),
    field('MOD', 'modRevision'),
    field('VERSION', 'version'),
    field('LEASE', 'lease'),
  ],
  raw: (row) => bytesOf(row, 'value'),
};
