/** A member of a group, as it is written and as others see it. */
import { type Codec, decodeWith } from '../../sdk/codec.ts';
import { type ConclaveError, isConclaveError } from '../../sdk/errors.ts';
import { hexId } from '../../sdk/hex-id.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { parseRecord } from '../common/json-record.ts';
import type { Stamp } from '../common/kept-entry.ts';
import type { Meta } from '../line/line-record.ts';
import { unescapeName } from '../names.ts';

type Readable<T> = { readonly data: T; readonly error?: undefined };
/** Written by a client with another codec. It is a member all the same. */
type Unreadable = { readonly data?: undefined; readonly error: ConclaveError };

export type Member<T> = (Readable<T> | Unreadable) & {
  readonly id: string;
  /** Tells this joining from another with the same id. */
  readonly incarnation: string;
  /** When it joined, by its own wall clock. */
  readonly since: Date;
  readonly meta: Meta;
  /** Its place in the order of members: updates keep it, joining again after a loss does not. */
  readonly createRevision: bigint;
  readonly modRevision: bigint;
  /** The lease that it lives by, in hexadecimal. */
  readonly session: string;
};

/** The value of a member's key. */
type MemberRecord = {
  readonly v: 1;
  readonly sinceMs: number;
  readonly meta?: Meta;
  readonly owner: string;
  readonly sequence: number;
  /** The data as text, or in base64 when it is not UTF-8. */
  readonly text?: string;
  readonly base64?: string;
};

export function encodeMember(
  data: Buffer,
  { owner, sequence }: Stamp,
  about: { readonly sinceMs: number; readonly meta: Meta },
): string {
  const text = data.toString('utf8');
  const isText = Buffer.from(text, 'utf8').equals(data);
  const record: MemberRecord = {
    v: 1,
    sinceMs: about.sinceMs,
    ...(Object.keys(about.meta).length === 0 ? {} : { meta: about.meta }),
    owner,
    sequence,
    ...(isText ? { text } : { base64: data.toString('base64') }),
  };
  return JSON.stringify(record);
}

const readRecord = (kv: KeyValue): Partial<MemberRecord> => parseRecord(kv);

export function stampOfMember(kv: KeyValue): Partial<Stamp> {
  const { owner, sequence } = readRecord(kv);
  return {
    ...(typeof owner === 'string' ? { owner } : {}),
    ...(typeof sequence === 'number' ? { sequence } : {}),
  };
}

/** undefined when the key holds something else. */
export function readMember<T>(
  prefix: string,
  kv: KeyValue,
  codec: Codec<T>,
): Member<T> | undefined {
  const { owner, sinceMs, meta, text, base64 } = readRecord(kv);
  if (typeof owner !== 'string') return undefined;
  const common = {
    id: unescapeName(kv.key.slice(prefix.length)),
    incarnation: owner,
    since: new Date(typeof sinceMs === 'number' ? sinceMs : 0),
    meta: typeof meta === 'object' && meta !== null ? meta : {},
    createRevision: kv.createRevision,
    modRevision: kv.modRevision,
    session: hexId(kv.lease),
  };
  const data =
    typeof base64 === 'string' ? Buffer.from(base64, 'base64') : Buffer.from(String(text ?? ''));
  try {
    return { ...common, data: decodeWith(codec, data, kv.key) };
  } catch (error) {
    if (!isConclaveError(error)) throw error;
    return { ...common, error };
  }
}

/** By the revisions that created them: the longest there is first. The same for all who look. */
export const inOrder = <T>(members: Iterable<Member<T>>): readonly Member<T>[] =>
  [...members].sort((a, b) => {
    if (a.createRevision !== b.createRevision) return a.createRevision < b.createRevision ? -1 : 1;
    return a.id < b.id ? -1 : 1;
  });
