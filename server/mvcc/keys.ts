/**
 * The layout of the state's key space. The first byte of a key names its table:
 *
 * | table | rest of the key                 | value                                             |
 * |-------|---------------------------------|---------------------------------------------------|
 * | `c`   | user key                        | a live key's newest version, without its value    |
 * | `d`   | user key                        | the same of a deleted key, until it is compacted  |
 * | `h`   | revision (8 BE), sub (4 BE)     | one version or deletion, with key and value       |
 * | `l`   | lease id (8 BE)                 | the lease                                         |
 * | `k`   | lease id (8 BE), user key       | nothing: the key is attached to the lease         |
 * | `m`   | name                            | small facts: revision, compaction, members, alarms |
 * | `s`   | client id (8 BE)                | a client whose calls count once                   |
 * | `s`   | client id (8 BE), slot (2 BE)   | one call of it and the call's result              |
 *
 * A value is stored once, in `h`. Each version there points at the one it replaced, so a read at
 * an older revision starts at the newest and follows the pointers. Every key that existed at a
 * readable revision is either in `c` or, as a tombstone, in `d`. They are apart because locks and
 * queues leave many dead keys behind: whoever reads what is there now must not wade through them.
 * Revisions sort as bytes, so history is a scan; so do the keys of a lease, which makes a
 * revocation delete them in key order.
 */
import { BinaryReader, writeId, writeUint32 } from './binary.ts';
import type { Bytes, KeySpan, LeaseId, Position, Revision } from './types.ts';

const CURRENT = 0x63; // c
const DELETED = 0x64; // d
const HISTORY = 0x68; // h
const ATTACHMENT = 0x6b; // k
const LEASE = 0x6c; // l
const FACT = 0x6d; // m
const CLIENT = 0x73; // s

/** The first bytes of the tables, in order. */
export const tablePrefixes = [CURRENT, DELETED, HISTORY, ATTACHMENT, LEASE, FACT, CLIENT] as const;

const TWO_POW_32 = 0x1_0000_0000;

/** Half-open bounds of a scan over storage keys. */
export type Bounds = { readonly start: Bytes; readonly end: Bytes };

const table = (prefix: number): Bounds => ({
  start: Buffer.of(prefix),
  end: Buffer.of(prefix + 1),
});

export const allCurrent = table(CURRENT);
export const allLeases = table(LEASE);
export const allClients = table(CLIENT);

export function currentKey(key: Bytes): Bytes {
  const result = Buffer.allocUnsafe(1 + key.length);
  result[0] = CURRENT;
  result.set(key, 1);
  return result;
}

/** Where the tombstone of a user key is, and where a `c` key's would be. */
export function tombstoneKey(key: Bytes): Bytes {
  const result = currentKey(key);
  result[0] = DELETED;
  return result;
}

export const tombstoneKeyOf = (stored: Bytes): Bytes => tombstoneKey(userKeyOfCurrent(stored));

/** The user key inside a `c` or `d` key. */
export const userKeyOfCurrent = (stored: Bytes): Bytes => stored.subarray(1);

/** Where a span's keys are in `c`. Empty when the span is. */
export function currentBounds({ key, rangeEnd }: KeySpan): Bounds {
  const start = currentKey(key);
  if (rangeEnd.length === 0) return { start, end: successor(start) };
  return { start, end: isFromKey(rangeEnd) ? allCurrent.end : currentKey(rangeEnd) };
}

/** etcd's way of saying "every key from `key` on": a range end of one zero byte. */
const isFromKey = (rangeEnd: Bytes): boolean => rangeEnd.length === 1 && rangeEnd[0] === 0;

export function historyKey(revision: Revision, sub: number): Bytes {
  const result = Buffer.allocUnsafe(13);
  result[0] = HISTORY;
  writeUint32(result, 1, Math.floor(revision / TWO_POW_32));
  writeUint32(result, 5, revision % TWO_POW_32);
  writeUint32(result, 9, sub);
  return result;
}

export function positionOfHistory(stored: Bytes): Position {
  return {
    revision: readUint32(stored, 1) * TWO_POW_32 + readUint32(stored, 5),
    sub: readUint32(stored, 9),
  };
}

function readUint32(bytes: Bytes, offset: number): number {
  const a = bytes[offset] ?? 0;
  const b = bytes[offset + 1] ?? 0;
  const c = bytes[offset + 2] ?? 0;
  const d = bytes[offset + 3] ?? 0;
  return ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;
}

/** History from a position up to and including every change of `last`. */
export const historyBounds = (from: Position, last: Revision): Bounds => ({
  start: historyKey(from.revision, from.sub),
  end: historyKey(last + 1, 0),
});

/** The end of the whole history. */
export const endOfHistory: Bytes = Buffer.of(HISTORY + 1);

export function leaseKey(id: LeaseId): Bytes {
  const result = Buffer.allocUnsafe(9);
  result[0] = LEASE;
  writeId(result, 1, id);
  return result;
}

/** The id inside an `l` key. */
export const leaseIdOf = (stored: Bytes): LeaseId => new BinaryReader(stored, 1).signedId();

export function attachmentKey(id: LeaseId, key: Bytes): Bytes {
  const result = Buffer.allocUnsafe(9 + key.length);
  result[0] = ATTACHMENT;
  writeId(result, 1, id);
  result.set(key, 9);
  return result;
}

const LAST_ID = -1n;

/** Where the keys of a lease are in `k`. */
export function attachmentBounds(id: LeaseId): Bounds {
  const start = attachmentKey(id, new Uint8Array(0));
  const isLast = BigInt.asIntN(64, id) === LAST_ID;
  const end = isLast ? Buffer.of(ATTACHMENT + 1) : attachmentKey(id + 1n, new Uint8Array(0));
  return { start, end };
}

/** The user key inside a `k` key. */
export const userKeyOfAttachment = (stored: Bytes): Bytes => stored.subarray(9);

/** The key of a fact, from its name and, where there are many of a kind, what tells them apart. */
export function factKey(name: string, suffix?: Bytes): Bytes {
  const head = Buffer.from(`m${name}`, 'latin1');
  return suffix === undefined ? head : Buffer.concat([head, suffix]);
}

/** Facts whose name begins with `name`, which must end in a byte below 0xff. */
export function factBounds(name: string): Bounds {
  const start = factKey(name);
  const end = Buffer.from(start);
  end[end.length - 1] = (end[end.length - 1] ?? FACT) + 1;
  return { start, end };
}

/** The smallest byte string after `key`. */
export function successor(key: Bytes): Bytes {
  const result = Buffer.allocUnsafe(key.length + 1);
  result.set(key);
  result[key.length] = 0;
  return result;
}

/** What a stored key is about, in the user's terms, for reports. */
export function describeStoredKey(stored: Bytes): string {
  switch (stored[0]) {
    case CURRENT:
    case DELETED:
      return `key ${JSON.stringify(Buffer.from(userKeyOfCurrent(stored)).toString())}`;
    case HISTORY:
      return `what was written at revision ${positionOfHistory(stored).revision}`;
    case LEASE:
      return `lease ${BigInt.asUintN(64, leaseIdOf(stored)).toString(16)}`;
    default:
      return 'a record of the store itself';
  }
}
