/** Keys as texts of one character a byte: their order as texts is their order as bytes. */
import { invalidArgument } from '../../sdk/errors.ts';
import { type Key, type KeyRange, Keyspace } from '../../sdk/keys.ts';
import { isWellFormed } from '../common/option-checks.ts';

/** Keys from one on, up to another, which is excluded; to the end without. */
export type Span = { readonly from: string; readonly to: string | undefined };

const keys = new Keyspace();
const noEnd = '\0';

/** Ends of ranges may be empty, keys may not: the keyspace tells. */
function assertText(key: unknown, field: string): void {
  const isKey = typeof key === 'string' ? isWellFormed(key) : key instanceof Uint8Array;
  if (!isKey) throw invalidArgument(field, key, 'a well-formed text or bytes');
}

/** @throws ConclaveError INVALID_ARGUMENT */
export function textOf(key: Key): string {
  assertText(key, 'key');
  return keys.key(key).toString('latin1');
}

export const bytesOf = (text: string): Buffer => Buffer.from(text, 'latin1');

/** @throws ConclaveError INVALID_ARGUMENT */
export function spanOf(range: KeyRange): Span {
  if (typeof range === 'string' || range instanceof Uint8Array) {
    throw invalidArgument('range', range, '{ prefix }, { from, to } or { all: true }');
  }
  for (const part of ['prefix', 'from', 'to'] as const) {
    const bound: unknown = Object(range)[part];
    if (bound !== undefined) assertText(bound, `range.${part}`);
  }
  const { key, rangeEnd } = keys.span(range);
  const to = rangeEnd.toString('latin1');
  return { from: key.toString('latin1'), to: to === noEnd ? undefined : to };
}

export const rangeOf = ({ from, to }: Span): KeyRange =>
  to === undefined ? { from: bytesOf(from) } : { from: bytesOf(from), to: bytesOf(to) };

export const includes = ({ from, to }: Span, key: string): boolean =>
  from <= key && (to === undefined || key < to);

export const covers = (outer: Span, inner: Span): boolean =>
  outer.from <= inner.from &&
  (outer.to === undefined || (inner.to !== undefined && inner.to <= outer.to));

/** The text of a key as the SDK shows it. */
export const shownAs = (text: string): string => bytesOf(text).toString('utf8');

/** The first key after this one. */
export const after = (key: string): string => `${key}\0`;

export const byKey = (one: string, other: string): number =>
  one < other ? -1 : Number(one > other);
