import type { Json } from './json.ts';

/** Strings are written as JSON, which YAML includes, so nothing can be taken for another type. */
const scalar = (value: string | number | boolean | null): string => JSON.stringify(value);

function block(value: Json, indent: string): string {
  if (typeof value !== 'object' || value === null) return ` ${scalar(value)}\n`;
  const deeper = `${indent}  `;
  if (Array.isArray(value)) {
    if (value.length === 0) return ' []\n';
    return `\n${value.map((item) => `${indent}-${entry(item, deeper)}`).join('')}`;
  }
  const fields = Object.entries(value);
  if (fields.length === 0) return ' {}\n';
  return `\n${fields.map(([key, field]) => `${indent}${plainKey(key)}:${block(field, deeper)}`).join('')}`;
}

/** An item of a list: a mapping begins on the line of its dash. */
function entry(value: Json, indent: string): string {
  const text = block(value, indent);
  return text.startsWith('\n') && !Array.isArray(value)
    ? ` ${text.slice(1 + indent.length)}`
    : text;
}

const plainKey = (key: string): string => (/^[A-Za-z][A-Za-z0-9]*$/.test(key) ? key : scalar(key));

/** One YAML 1.2 document, with its end of line. */
export const toYaml = (value: Json): string => block(value, '').replace(/^\s/, '');
