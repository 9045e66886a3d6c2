/** Bytes from a store as text that cannot harm a terminal or break a table. */

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** The text, or undefined when the bytes are not valid UTF-8. */
export function textOf(bytes: Uint8Array): string | undefined {
  try {
    return utf8.decode(bytes);
  } catch {
    return undefined;
  }
}

const named: Readonly<Record<string, string>> = {
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\\': '\\\\',
};

const escapeCharacter = (character: string): string =>
  named[character] ?? `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`;

/** One cell of a table or of tab-separated lines: control characters and `\` are escaped. */
export const cell = (text: string): string =>
  text.replaceAll(
    /[\\\p{Cc}\p{Zl}\p{Zp}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu,
    escapeCharacter,
  );

/** Bytes that are not UTF-8 show as base64 with a mark. */
export const bytesCell = (bytes: Uint8Array): string =>
  textOf(bytes) ?? `base64:${Buffer.from(bytes).toString('base64')}`;
