/** Leases and what is attached to them, as the state keeps it: tables `l` and `k` of keys.ts. */
import { BinaryReader, unsignedSize, writeUnsigned } from './binary.ts';
import type { Draft, ForwardReader } from './draft.ts';
import { allLeases, attachmentBounds, leaseIdOf, leaseKey, userKeyOfAttachment } from './keys.ts';
import { slices } from './slices.ts';
import { deleteKey, readCurrent } from './store.ts';
import type { Bytes, LeaseId } from './types.ts';

export type StoredLease = { readonly id: LeaseId; readonly ttlSeconds: number };

export function encodeLease(ttlSeconds: number): Bytes {
  const result = Buffer.allocUnsafe(unsignedSize(ttlSeconds));
  writeUnsigned(result, 0, ttlSeconds);
  return result;
}

/** All leases, in order of id. */
export function* readLeases(reader: ForwardReader): Generator<StoredLease, void> {
  for (const slice of slices(reader, allLeases.start, allLeases.end)) {
    for (const [key, value] of slice) {
      yield { id: leaseIdOf(key), ttlSeconds: new BinaryReader(value).unsigned() };
    }
  }
}

/** A lease's keys in order. */
export function readLeaseKeys(reader: ForwardReader, id: LeaseId): readonly Bytes[] {
  const { start, end } = attachmentBounds(id);
  const keys: Bytes[] = [];
  for (const slice of slices(reader, start, end)) {
    for (const [stored] of slice) keys.push(userKeyOfAttachment(stored));
  }
  return keys;
}

/** Deletes a lease and its keys in their order. */
export function deleteLease(draft: Draft, reader: ForwardReader, id: LeaseId): void {
  for (const key of readLeaseKeys(reader, id)) {
    const current = readCurrent(reader, key);
    if (current !== undefined) deleteKey(draft, key, current);
  }
  draft.remove(leaseKey(id));
}
