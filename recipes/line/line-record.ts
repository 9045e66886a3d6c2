/** What a member of a line writes into its key, for people and for followers of an election. */
import { hexId } from '../../sdk/hex-id.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import type { Session } from '../../sdk/session.ts';
import { checkMeta } from '../../sdk/session-meta.ts';
import { parseRecord } from '../common/json-record.ts';

/** Shown beside a member: host, process, purpose. */
export type Meta = Readonly<Record<string, string>>;

/** A member of a line, in line order. */
export type LineEntry = {
  readonly key: string;
  /** The session's lease in hexadecimal. */
  readonly session: string;
  /** The create revision of its key: its number in the line. */
  readonly createRevision: bigint;
  readonly modRevision: bigint;
  /** When it joined, by its own wall clock. */
  readonly since: Date;
  readonly meta: Meta;
};

type LineRecord = {
  readonly v: 1;
  readonly sinceMs: number;
  readonly meta?: Meta;
  /** The candidate's value as text, or in base64 when it is not UTF-8. */
  readonly text?: string;
  readonly base64?: string;
} & LineTerms;

/** What members of some lines are judged by. */
export type LineTerms = {
  /** How a member of a read-write lock shares it. */
  readonly mode?: string;
  /** How many permits of a semaphore it takes. */
  readonly weight?: number;
  /** The name of the rule that it stands in line by. */
  readonly rule?: string;
  /** How a candidate of an election by priority ranks. */
  readonly priority?: number;
  /** Tells who has taken the place over; absent while its first holder has it. See `takeover.ts`. */
  readonly resumed?: string;
};

export type LineContent = {
  readonly sinceMs: number;
  readonly meta: Meta;
  readonly value?: Uint8Array;
  readonly terms?: LineTerms;
};

/**
 * What is shown beside a member: the session's own meta, and what was given with a call.
 *
 * @throws ConclaveError INVALID_ARGUMENT when that is not a flat record of texts
 */
export function shownMeta(session: Pick<Session, 'meta'>, given: Meta = {}): Meta {
  // Before they are merged: a text would be spread into its letters.
  checkMeta(given);
  return { ...session.meta, ...given };
}

/** @throws ConclaveError INVALID_ARGUMENT when the meta is not a flat record of texts */
export function encodeLineRecord(content: LineContent): string {
  checkMeta(content.meta);
  const record: LineRecord = {
    v: 1,
    sinceMs: content.sinceMs,
    ...(Object.keys(content.meta).length === 0 ? {} : { meta: content.meta }),
    ...(content.value === undefined ? {} : valueFields(Buffer.from(content.value))),
    ...content.terms,
  };
  return JSON.stringify(record);
}

function valueFields(value: Buffer): { text: string } | { base64: string } {
  const text = value.toString('utf8');
  return Buffer.from(text, 'utf8').equals(value) ? { text } : { base64: value.toString('base64') };
}

/** Reads a record leniently: a key that something else wrote still is a place in the line. */
export function decodeLineRecord(value: Uint8Array): LineContent {
  const record = parseRecord({ value }) as Partial<LineRecord>;
  const bytes =
    typeof record.text === 'string'
      ? Buffer.from(record.text, 'utf8')
      : typeof record.base64 === 'string'
        ? Buffer.from(record.base64, 'base64')
        : undefined;
  return {
    sinceMs: typeof record.sinceMs === 'number' ? record.sinceMs : 0,
    meta: typeof record.meta === 'object' && record.meta !== null ? record.meta : {},
    ...(bytes === undefined ? {} : { value: bytes }),
    terms: {
      ...(typeof record.mode === 'string' ? { mode: record.mode } : {}),
      ...(typeof record.weight === 'number' ? { weight: record.weight } : {}),
      ...(typeof record.rule === 'string' ? { rule: record.rule } : {}),
      ...(typeof record.priority === 'number' ? { priority: record.priority } : {}),
      ...(typeof record.resumed === 'string' ? { resumed: record.resumed } : {}),
    },
  };
}

export function lineEntry(kv: KeyValue): LineEntry {
  const content = decodeLineRecord(kv.value);
  return {
    key: kv.key,
    session: hexId(kv.lease),
    createRevision: kv.createRevision,
    modRevision: kv.modRevision,
    since: new Date(content.sinceMs),
    meta: content.meta,
  };
}

/** Keys of one line in line order. */
export const inLineOrder = (kvs: Iterable<KeyValue>): KeyValue[] =>
  [...kvs].sort((a, b) => (a.createRevision < b.createRevision ? -1 : 1));
