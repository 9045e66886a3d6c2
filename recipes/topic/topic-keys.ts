/** Where one topic keeps what, and what the key of a message tells without its value. */
import type { KeyValue } from '../../sdk/kv.ts';
import { parseRecord } from '../common/json-record.ts';
import { escapeName, topicPrefix } from '../names.ts';

export type TopicKeys = {
  /** The name of the topic, as it was given. */
  readonly name: string;
  readonly root: string;
  readonly message: string;
  readonly floor: string;
  readonly settings: string;
  readonly op: string;
  readonly position: string;
  readonly active: string;
};

/** @throws ConclaveError INVALID_ARGUMENT */
export function topicKeys(name: string): TopicKeys {
  const root = topicPrefix(name);
  return {
    name,
    root,
    message: `${root}message/`,
    floor: `${root}floor`,
    settings: `${root}settings`,
    op: `${root}op/`,
    position: `${root}position/`,
    active: `${root}active/`,
  };
}

/** Of a named subscription: one consumer at a time, or a group of them. */
export type SubscriptionKind = 'durable' | 'group';

/** One level for the kind and one for the name. @throws ConclaveError INVALID_ARGUMENT */
export const subscriptionLevel = (kind: SubscriptionKind, name: string): string =>
  `${kind}/${escapeName(name, kind)}`;

/** What a message's key tells. */
export type MessageKey = {
  readonly key: string;
  readonly id: string;
  /** By the wall clock of who published it. */
  readonly publishedMs: number;
  readonly bytes: number;
};

/**
 * `<published>-<publisher>-<sequence>-<bytes>`: ids of one publisher sort in the order of its calls,
 * and no two publishers share any. Their order among publishers means nothing: revisions tell that.
 */
export const messageId = (
  publishedMs: number,
  publisher: string,
  sequence: number,
  bytes: number,
): string => `${hex(publishedMs, 12)}-${publisher}-${hex(sequence, 8)}-${hex(bytes, 6)}`;

const idForm = /^([0-9a-f]{12})-[0-9a-f]{16}-[0-9a-f]{8}-([0-9a-f]{6})$/;

/** undefined for a key that no publisher made. */
export function parseMessageKey(keys: TopicKeys, key: string): MessageKey | undefined {
  const id = key.slice(keys.message.length);
  const match = idForm.exec(id);
  if (match === null) return undefined;
  const [, published = '', bytes = ''] = match;
  return {
    key,
    id,
    publishedMs: Number.parseInt(published, 16),
    bytes: Number.parseInt(bytes, 16),
  };
}

/** Everything up to this revision has been removed by retention; 0n while nothing has. */
export function readFloor(kv: KeyValue | null | undefined): bigint {
  return kv == null ? 0n : (revisionIn(kv.value, 'through') ?? 0n);
}

export const writeFloor = (through: bigint): string =>
  JSON.stringify({ v: 1, through: through.toString() });

/** A revision kept under `field` of a JSON object; undefined when there is none. */
export function revisionIn(value: Uint8Array, field: string): bigint | undefined {
  const kept = parseRecord({ value })[field];
  return typeof kept === 'string' && /^\d+$/.test(kept) ? BigInt(kept) : undefined;
}

const hex = (value: number, digits: number) => value.toString(16).padStart(digits, '0');
