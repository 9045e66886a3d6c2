/**
 * The JSON that the command line prints is a contract:
 *
 * - 64-bit numbers (revisions, versions, counts, sizes, tokens) are strings of decimal digits, as in
 *   etcd's JSON gateway; durations in milliseconds and other small numbers are numbers.
 * - Ids (leases, sessions, members, clusters) are strings of lower-case hexadecimal.
 * - Keys and values are UTF-8 text. Where the bytes are not valid UTF-8 the text has U+FFFD in it and
 *   `keyBase64` or `valueBase64` beside it holds the bytes.
 * - What is absent is null; fields are never left out, except `…Base64`.
 * - Fields may be added; what is there keeps its name and type within `outputVersion`.
 */
import { hexId } from '../../../sdk/hex-id.ts';
import type { KeyValue } from '../../../sdk/kv.ts';
import { textOf } from './text.ts';

export type Json =
  | string
  | number
  | boolean
  | null
  | readonly Json[]
  | { readonly [key: string]: Json };

export type JsonObject = { readonly [key: string]: Json };

/** Rises when a field changes its name, type or meaning. */
export const outputVersion = 1;

/** A lease, where 0 stands for none. */
const leaseOrNull = (lease: bigint): string | null => (lease === 0n ? null : hexId(lease));

export function bytesFields(name: 'key' | 'value' | 'payload', bytes: Uint8Array): JsonObject {
  const text = textOf(bytes);
  if (text !== undefined) return { [name]: text };
  const buffer = Buffer.from(bytes);
  return { [name]: buffer.toString('utf8'), [`${name}Base64`]: buffer.toString('base64') };
}

export const keyValueJson = (kv: KeyValue): JsonObject => ({
  ...bytesFields('key', kv.keyBytes),
  ...bytesFields('value', kv.value),
  createRevision: `${kv.createRevision}`,
  modRevision: `${kv.modRevision}`,
  version: `${kv.version}`,
  lease: leaseOrNull(kv.lease),
});
