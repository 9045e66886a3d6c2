/** A message as it is published, as it is stored, and as subscribers see it. */
import { type Codec, decodeWith } from '../../sdk/codec.ts';
import { toBuffer } from '../../sdk/keys.ts';
import type { TopicKeys } from './topic-keys.ts';
import { parseMessageKey } from './topic-keys.ts';

/** Messages of one publication at most: a transaction of every server holds them. */
export const messagesMax = 64;

/** One publication, keys and headers included, at most: servers take 1.5 MiB. */
export const publicationBytesMax = 1024 * 1024;

export type NewMessage<T> = {
  readonly data: T;
  /** What the message is about: groups handle the messages of a key in order. 1 to 200 bytes. */
  readonly key?: string;
  readonly headers?: Readonly<Record<string, string>>;
};

export type Message<T> = {
  /** Unique in the topic. */
  readonly id: string;
  /** The revision of its publication; equal for what was published together. */
  readonly revision: bigint;
  /** Decoded at each look. @throws ConclaveError CODEC when it cannot be read */
  readonly data: T;
  readonly key?: string;
  readonly headers: Readonly<Record<string, string>>;
  /** By the wall clock of who published it. */
  readonly publishedAt: Date;
};

/** A message as the store has it. */
export type StoredMessage = {
  readonly key: string;
  readonly value: Uint8Array;
  readonly revision: bigint;
};

/** What stands before a payload. */
export type Header = {
  readonly key?: string;
  readonly headers?: Readonly<Record<string, string>>;
};

/** One line of JSON, then the payload as the codec wrote it. */
export const envelope = (header: object, payload: Uint8Array): Buffer =>
  Buffer.concat([Buffer.from(`${JSON.stringify(header)}\n`), payload]);

/** Header and payload; no header, and all of it as payload, when somebody wrote it by hand. */
export function openEnvelope<H extends object = Header>(
  value: Uint8Array,
): { readonly header: Partial<H>; readonly payload: Buffer } {
  const content = toBuffer(value);
  const end = content.indexOf(0x0a);
  try {
    const header: unknown = JSON.parse(content.subarray(0, Math.max(end, 0)).toString('utf8'));
    if (typeof header === 'object' && header !== null) {
      return { header: header as Partial<H>, payload: content.subarray(end + 1) };
    }
  } catch {
    // Not ours.
  }
  return { header: {}, payload: content };
}

/** The message as subscribers see it. */
export function shownMessage<T>(
  keys: TopicKeys,
  { key, value, revision }: StoredMessage,
  codec: Codec<T>,
): Message<T> {
  const { header, payload } = openEnvelope(value);
  return {
    id: key.slice(keys.message.length),
    revision,
    get data() {
      return decodeWith(codec, payload, key);
    },
    ...(header.key === undefined ? {} : { key: header.key }),
    headers: header.headers ?? {},
    publishedAt: new Date(parseMessageKey(keys, key)?.publishedMs ?? 0),
  };
}
