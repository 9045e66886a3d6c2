/**
 * A checksum of what the store holds logically, so that members agree on it whatever their physical
 * state: which versions compaction has yet to remove does not matter.
 *
 * Hashed are, of the revisions up to the one asked for, all versions from the compacted revision C
 * on, and of each key that existed just below C and was not written at C, the version it had.
 */
import { writeId, writeUnsigned } from './binary.ts';
import type { ForwardReader } from './draft.ts';
import { allCurrent, historyKey, userKeyOfCurrent } from './keys.ts';
import { type Horizon, revisionFault } from './range.ts';
import { decodeCurrent, decodeVersion, type Version } from './records.ts';
import { traces } from './traces.ts';
import type { Bytes, FaultResult, Position, Revision } from './types.ts';

/** CRC-32C (Castagnoli), reflected polynomial 0x82f63b78, one byte at a time. */
export class Crc32c {
  #state = 0xffff_ffff;

  add(bytes: Bytes): void {
    let state = this.#state;
    for (let index = 0; index < bytes.length; index += 1) {
      state = (TABLE[(state ^ (bytes[index] as number)) & 0xff] as number) ^ (state >>> 8);
    }
    this.#state = state;
  }

  /** Content and length, so that neighbouring fields cannot be told apart by chance only. */
  addField(bytes: Bytes): void {
    this.addNumber(bytes.length);
    this.add(bytes);
  }

  addNumber(value: number): void {
    this.add(SCRATCH.subarray(0, writeUnsigned(SCRATCH, 0, value)));
  }

  addId(id: bigint): void {
    this.add(SCRATCH.subarray(0, writeId(SCRATCH, 0, id)));
  }

  get value(): number {
    return ~this.#state >>> 0;
  }
}

const SCRATCH = new Uint8Array(16);

const TABLE = new Int32Array(256).map((_, byte) => {
  let remainder = byte;
  for (let bit = 0; bit < 8; bit += 1) {
    remainder = (remainder >>> 1) ^ ((remainder & 1) === 1 ? 0x82f6_3b78 : 0);
  }
  return remainder;
});

export type HashResult = {
  readonly kind: 'hash';
  readonly hash: number;
  readonly hashRevision: Revision;
  readonly compactRevision: Revision;
};

/**
 * The checksum at a revision, 0 for the newest. Pauses between slices of keys; starts again when a
 * compaction is applied meanwhile, since that changes what is hashed.
 */
export function* readHash(
  reader: ForwardReader,
  revision: Revision,
  horizon: Horizon,
): Generator<void, HashResult | FaultResult> {
  const hashRevision = revision <= 0 ? horizon.revision : revision;
  for (;;) {
    const fault = revisionFault(hashRevision, horizon);
    if (fault !== undefined) return { kind: 'fault', code: fault, revision: horizon.revision };
    const { compactRevision } = horizon;
    const crc = new Crc32c();
    let isCurrent = true;
    for (const { pairs } of traces(reader, allCurrent)) {
      for (const [stored, data] of pairs) {
        addKey(
          crc,
          reader,
          userKeyOfCurrent(stored),
          decodeCurrent(data),
          hashRevision,
          compactRevision,
        );
      }
      yield;
      isCurrent = horizon.compactRevision === compactRevision;
      if (!isCurrent) break;
    }
    if (isCurrent) return { kind: 'hash', hash: crc.value, hashRevision, compactRevision };
  }
}

function addKey(
  crc: Crc32c,
  reader: ForwardReader,
  key: Bytes,
  newest: Position,
  hashRevision: Revision,
  compactRevision: Revision,
): void {
  let isWrittenAtCompaction = false;
  for (let at: Position | undefined = newest; at !== undefined; ) {
    const data = reader.get(historyKey(at.revision, at.sub));
    if (data === undefined) return;
    const version = decodeVersion(data);
    if (at.revision < compactRevision) {
      if (!isWrittenAtCompaction && !version.deleted) addVersion(crc, key, at, version);
      return;
    }
    if (at.revision === compactRevision) isWrittenAtCompaction = true;
    if (at.revision <= hashRevision) addVersion(crc, key, at, version);
    at = version.replaces;
  }
}

function addVersion(crc: Crc32c, key: Bytes, at: Position, version: Version): void {
  crc.addField(key);
  crc.addNumber(at.revision);
  crc.addNumber(at.sub);
  crc.addNumber(version.deleted ? 1 : 0);
  crc.addNumber(version.createRevision);
  crc.addNumber(version.version);
  crc.addId(version.lease);
  crc.addField(version.value);
}
