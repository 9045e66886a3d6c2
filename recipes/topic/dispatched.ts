/** A message or a gap as a group's queue has it: by itself, whatever retention does to the topic. */
import { type Codec, decodeWith } from '../../sdk/codec.ts';
import { escapeName } from '../names.ts';
import {
  envelope,
  type Header,
  type Message,
  openEnvelope,
  type StoredMessage,
} from './message.ts';
import type { TopicGap } from './topic-events.ts';
import { parseMessageKey, type TopicKeys } from './topic-keys.ts';

type DispatchedHeader = Header & {
  readonly id: string;
  readonly revision: string;
  readonly publishedMs: number;
  readonly gap: { readonly from: string; readonly to: string; readonly reason?: 'restored' };
};

export type Dispatched<T> = { readonly type: 'message'; readonly message: Message<T> } | TopicGap;

/** The message, and the group of the queue that keeps the messages of its key in order. */
export function dispatchedMessage(
  keys: TopicKeys,
  stored: StoredMessage,
): { readonly payload: Uint8Array; readonly group: string | undefined } {
  const { header, payload } = openEnvelope(stored.value);
  const whence = {
    id: stored.key.slice(keys.message.length),
    revision: stored.revision.toString(),
    publishedMs: parseMessageKey(keys, stored.key)?.publishedMs ?? 0,
  };
  const { key } = header;
  return {
    payload: envelope({ ...header, ...whence }, payload),
    group: key === undefined ? undefined : escapeName(key, 'key'),
  };
}

export function dispatchedGap({ from, to, reason }: TopicGap): Uint8Array {
  const why = reason === 'restored' ? { reason } : {};
  const gap = { from: from.toString(), to: to.toString(), ...why };
  return envelope({ v: 1, gap }, Buffer.alloc(0));
}

/** Decodes what is dispatched; its data is decoded at each look. */
export const dispatchedCodec = <T>(codec: Codec<T>): Codec<Dispatched<T>> => ({
  encode: () => {
    throw new TypeError('What is dispatched is written by the topic alone');
  },
  decode: (bytes) => {
    const { header, payload } = openEnvelope<DispatchedHeader>(bytes);
    const { gap, id = '', revision = '0', publishedMs = 0, key, headers = {} } = header;
    if (gap !== undefined) {
      const { from, to, reason = 'removed' } = gap;
      return { type: 'gap', from: revisionOf(from), to: revisionOf(to), reason };
    }
    return {
      type: 'message',
      message: {
        id,
        revision: revisionOf(revision),
        get data() {
          return decodeWith(codec, payload, id);
        },
        ...(key === undefined ? {} : { key }),
        headers,
        publishedAt: new Date(publishedMs),
      },
    };
  },
});

const revisionOf = (text: string): bigint => (/^\d+$/.test(text) ? BigInt(text) : 0n);
