/** Results of the store in a form that tests compare: bytes as strings of one character a byte. */

export const bytes = (characters: string): Uint8Array => Buffer.from(characters, 'latin1');

export const text = (content: Uint8Array): string =>
  Buffer.from(content.buffer, content.byteOffset, content.length).toString('latin1');

/** A deep copy with every byte string as text; what an event replaced is left out. */
export function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return text(value);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([name]) => name !== 'replaces')
      .map(([name, inner]) => [name, plain(inner)]),
  );
}
