/** The values of the tables `c` and `h`: see keys.ts for how they hang together. */
import { BinaryReader, EMPTY, unsignedSize, writeId, writeUnsigned } from './binary.ts';
import { type Bytes, type LeaseId, NO_LEASE, type Position, type Revision } from './types.ts';

const DELETED = 1;
const LEASED = 2;
const REPLACES = 4;

/** A key's newest version. */
export type Current = Position & {
  readonly deleted: boolean;
  /** For a tombstone, of the life that the deletion ended: whoever reads between sees a live key. */
  readonly createRevision: Revision;
  readonly version: number;
  readonly lease: LeaseId;
};

export function encodeCurrent(current: Current): Bytes {
  const { revision, sub, createRevision, version, lease } = current;
  const leased = lease !== NO_LEASE;
  const result = Buffer.allocUnsafe(
    1 +
      unsignedSize(revision) +
      unsignedSize(sub) +
      unsignedSize(createRevision) +
      unsignedSize(version) +
      (leased ? 8 : 0),
  );
  result[0] = (current.deleted ? DELETED : 0) | (leased ? LEASED : 0);
  let at = writeUnsigned(result, 1, revision);
  at = writeUnsigned(result, at, sub);
  at = writeUnsigned(result, at, createRevision);
  at = writeUnsigned(result, at, version);
  if (leased) writeId(result, at, lease);
  return result;
}

export function decodeCurrent(data: Bytes): Current {
  const reader = new BinaryReader(data);
  const flags = reader.byte();
  return {
    deleted: (flags & DELETED) !== 0,
    revision: reader.unsigned(),
    sub: reader.unsigned(),
    createRevision: reader.unsigned(),
    version: reader.unsigned(),
    lease: (flags & LEASED) === 0 ? NO_LEASE : reader.signedId(),
  };
}

/** One version of a key, or its deletion. */
export type Version = {
  readonly deleted: boolean;
  readonly key: Bytes;
  /** Empty for a deletion. */
  readonly value: Bytes;
  /** The life that this version belongs to; 0 for a deletion, as in etcd's delete events. */
  readonly createRevision: Revision;
  readonly version: number;
  readonly lease: LeaseId;
  /** The key's version before, which may have been compacted away. */
  readonly replaces: Position | undefined;
};

export function encodeVersion(version: Version): Bytes {
  const { key, value, lease, replaces } = version;
  const leased = lease !== NO_LEASE;
  const size =
    1 +
    unsignedSize(version.createRevision) +
    unsignedSize(version.version) +
    (leased ? 8 : 0) +
    (replaces === undefined ? 0 : unsignedSize(replaces.revision) + unsignedSize(replaces.sub)) +
    unsignedSize(key.length) +
    key.length +
    value.length;
  const result = Buffer.allocUnsafe(size);
  result[0] =
    (version.deleted ? DELETED : 0) |
    (leased ? LEASED : 0) |
    (replaces === undefined ? 0 : REPLACES);
  let at = writeUnsigned(result, 1, version.createRevision);
  at = writeUnsigned(result, at, version.version);
  if (leased) at = writeId(result, at, lease);
  if (replaces !== undefined) {
    at = writeUnsigned(result, at, replaces.revision);
    at = writeUnsigned(result, at, replaces.sub);
  }
  at = writeUnsigned(result, at, key.length);
  result.set(key, at);
  result.set(value, at + key.length);
  return result;
}

/** Key and value of the result are views on the data. */
export function decodeVersion(data: Bytes): Version {
  const reader = new BinaryReader(data);
  const flags = reader.byte();
  const createRevision = reader.unsigned();
  const version = reader.unsigned();
  const lease = (flags & LEASED) === 0 ? NO_LEASE : reader.signedId();
  const replaces =
    (flags & REPLACES) === 0 ? undefined : { revision: reader.unsigned(), sub: reader.unsigned() };
  const key = reader.bytes();
  const deleted = (flags & DELETED) !== 0;
  const value = deleted ? EMPTY : reader.rest();
  return { deleted, key, value, createRevision, version, lease, replaces };
}
