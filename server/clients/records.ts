/**
 * How the state keeps clients: table `s`, see ../mvcc/keys.ts.
 *
 * A client has a head and one record for each slot. The record of a call is written over that of a
 * call which the client needs no more, so a busy client touches few keys again and again, and no call
 * has to remove anything. What a record says beyond its own result holds for the client as a whole
 * when it is the newest: the newest is never written over by anything but a newer one.
 */
import { BinaryReader, unsignedSize, writeId, writeUnsigned } from '../mvcc/binary.ts';
import { allClients } from '../mvcc/keys.ts';
import type { Bytes } from '../mvcc/types.ts';
import type { ClientId } from './call.ts';

const ID_BYTES = 8;
const SLOT_BYTES = 2;
const HEAD_BYTES = 1 + ID_BYTES;

/** The key of a client's head, which says only since which entry there is the client. */
export function headKey(id: ClientId): Bytes {
  const key = Buffer.allocUnsafe(HEAD_BYTES);
  key.set(allClients.start);
  writeId(key, 1, id);
  return key;
}

export function slotKey(head: Bytes, slot: number): Bytes {
  const key = Buffer.allocUnsafe(HEAD_BYTES + SLOT_BYTES);
  key.set(head);
  key[HEAD_BYTES] = slot >>> 8;
  key[HEAD_BYTES + 1] = slot;
  return key;
}

export type Place = {
  readonly id: ClientId;
  /** Undefined for the head. */
  readonly slot: number | undefined;
};

export function placeOf(key: Bytes): Place {
  const id = new BinaryReader(key, 1).unsignedId();
  const isHead = key.length === HEAD_BYTES;
  return {
    id,
    slot: isHead ? undefined : ((key[HEAD_BYTES] ?? 0) << 8) | (key[HEAD_BYTES + 1] ?? 0),
  };
}

export function encodeHead(index: number): Bytes {
  const data = Buffer.allocUnsafe(unsignedSize(index));
  writeUnsigned(data, 0, index);
  return data;
}

export const decodeHead = (data: Bytes): number => new BinaryReader(data).unsigned();

export type CallRecord = {
  readonly sequence: number;
  /** The client's floor when the call was applied. */
  readonly floor: number;
  /** The entry that applied the call. */
  readonly index: number;
  /** As ./result-codec.ts writes it. */
  readonly result: Bytes;
};

export function encodeCall({ sequence, floor, index, result }: CallRecord): Bytes {
  const head = unsignedSize(sequence) + unsignedSize(floor) + unsignedSize(index);
  const data = Buffer.allocUnsafe(head + result.length);
  let at = writeUnsigned(data, 0, sequence);
  at = writeUnsigned(data, at, floor);
  at = writeUnsigned(data, at, index);
  data.set(result, at);
  return data;
}

/** The result is a view on the data. */
export function decodeCall(data: Bytes): CallRecord {
  const reader = new BinaryReader(data);
  return {
    sequence: reader.unsigned(),
    floor: reader.unsigned(),
    index: reader.unsigned(),
    result: reader.rest(),
  };
}
