/**
 * Results as the state keeps them for a repetition of their call.
 *
 * Format: the kind, the revision, then the kind's fields; numbers, ids and bytes as everywhere in the
 * state (../mvcc/binary.ts). A fault is kept by the name of its code.
 */
import { unreachable } from '../assert.ts';
import type { CommandResult, MembershipResultKind, PlainResultKind } from '../command.ts';
import { type FaultCode, faults } from '../faults.ts';
import {
  BinaryReader,
  bytesSize,
  DecodeError,
  signedSize,
  unsignedSize,
  writeBytes,
  writeId,
  writeSigned,
  writeUnsigned,
} from '../mvcc/binary.ts';
import {
  type Bytes,
  type KeyValue,
  NO_LEASE,
  type OperationResult,
  type RangeResult,
  type Revision,
} from '../mvcc/types.ts';
import { decodeMember, encodeMember } from '../roster-records.ts';

const plainKinds: readonly PlainResultKind[] = [
  'compact',
  'lease-revoke',
  'lease-expire',
  'alarm',
  'member',
  'introduce',
  'client-forget',
  'client-expire',
];
const membershipKinds: readonly MembershipResultKind[] = [
  'member-update',
  'member-add',
  'member-remove',
  'member-promote',
  'member-replace',
  'member-leave',
  'bootstrap',
];

const tags = {
  fault: 0,
  put: 1,
  deleteRange: 2,
  txn: 3,
  range: 4,
  leaseGrant: 5,
  clientRegister: 6,
  /** And one for each of the plain kinds, in their order. */
  plain: 16,
  /** And one for each of the membership kinds, in their order. */
  membership: 32,
} as const;

/**
 * A result in at most `maxBytes`; of one that would take more, only that the call took effect: the
 * fault `result-forgotten`.
 */
export function encodeResult(result: CommandResult, maxBytes: number): Bytes {
  const counter = new Output(undefined);
  writeResult(counter, result);
  if (counter.length > maxBytes && result.kind !== 'fault') {
    return encodeResult(
      { kind: 'fault', code: 'result-forgotten', revision: result.revision },
      maxBytes,
    );
  }
  const target = Buffer.allocUnsafe(counter.length);
  writeResult(new Output(target), result);
  return target;
}

/** Writes to a target, or, without one, only counts. */
class Output {
  length = 0;
  readonly #target: Uint8Array | undefined;

  constructor(target: Uint8Array | undefined) {
    this.#target = target;
  }

  byte(value: number): void {
    if (this.#target !== undefined) this.#target[this.length] = value;
    this.length += 1;
  }

  unsigned(value: number): void {
    if (this.#target === undefined) this.length += unsignedSize(value);
    else this.length = writeUnsigned(this.#target, this.length, value);
  }

  signed(value: number): void {
    if (this.#target === undefined) this.length += signedSize(value);
    else this.length = writeSigned(this.#target, this.length, value);
  }

  id(value: bigint): void {
    if (this.#target === undefined) this.length += 8;
    else this.length = writeId(this.#target, this.length, value);
  }

  bytes(value: Bytes): void {
    if (this.#target === undefined) this.length += bytesSize(value);
    else this.length = writeBytes(this.#target, this.length, value);
  }
}

function writeResult(output: Output, result: CommandResult): void {
  switch (result.kind) {
    case 'put':
    case 'delete-range':
    case 'txn':
      writeOperation(output, result);
      return;
    case 'lease-grant':
      head(output, tags.leaseGrant, result.revision);
      output.id(result.id);
      output.signed(result.ttlSeconds);
      return;
    case 'client-register':
      head(output, tags.clientRegister, result.revision);
      output.id(result.id);
      return;
    case 'fault':
      head(output, tags.fault, result.revision);
      output.bytes(Buffer.from(result.code, 'latin1'));
      return;
    case 'compact':
    case 'lease-revoke':
    case 'lease-expire':
    case 'alarm':
    case 'member':
    case 'introduce':
    case 'client-forget':
    case 'client-expire':
      head(output, tags.plain + plainKinds.indexOf(result.kind), result.revision);
      return;
    case 'member-update':
    case 'member-add':
    case 'member-remove':
    case 'member-promote':
    case 'member-replace':
    case 'member-leave':
    case 'bootstrap':
      head(output, tags.membership + membershipKinds.indexOf(result.kind), result.revision);
      output.unsigned(result.index);
      output.unsigned(result.members.length);
      for (const member of result.members) {
        output.id(member.id);
        output.bytes(encodeMember(member));
      }
      return;
    default:
      unreachable(result);
  }
}

function head(output: Output, tag: number, revision: Revision): void {
  output.byte(tag);
  output.unsigned(revision);
}

function writeOperation(output: Output, result: OperationResult): void {
  switch (result.kind) {
    case 'put':
      head(output, tags.put, result.revision);
      output.byte(result.prevKv === undefined ? 0 : 1);
      if (result.prevKv !== undefined) writeKeyValue(output, result.prevKv);
      return;
    case 'delete-range':
      head(output, tags.deleteRange, result.revision);
      output.unsigned(result.deleted);
      writeKeyValues(output, result.prevKvs);
      return;
    case 'range':
      head(output, tags.range, result.revision);
      output.byte(result.more ? 1 : 0);
      output.unsigned(result.count);
      writeKeyValues(output, result.kvs);
      return;
    case 'txn':
      head(output, tags.txn, result.revision);
      output.byte(result.succeeded ? 1 : 0);
      output.unsigned(result.responses.length);
      for (const response of result.responses) writeOperation(output, response);
      return;
    default:
      unreachable(result);
  }
}

function writeKeyValues(output: Output, kvs: readonly KeyValue[]): void {
  output.unsigned(kvs.length);
  for (const kv of kvs) writeKeyValue(output, kv);
}

function writeKeyValue(output: Output, kv: KeyValue): void {
  const leased = kv.lease !== NO_LEASE;
  output.byte(leased ? 1 : 0);
  output.bytes(kv.key);
  output.bytes(kv.value);
  output.unsigned(kv.createRevision);
  output.unsigned(kv.modRevision);
  output.unsigned(kv.version);
  if (leased) output.id(kv.lease);
}

/**
 * Keys and values of the result are views on the data.
 *
 * @throws {DecodeError} when the data is no result.
 */
export function decodeResult(data: Bytes): CommandResult {
  const reader = new BinaryReader(data);
  const result = readResult(reader);
  if (!reader.atEnd) throw new DecodeError(`${reader.remaining} bytes after the result`);
  return result;
}

function readResult(reader: BinaryReader): CommandResult {
  const tag = reader.byte();
  switch (tag) {
    case tags.put:
    case tags.deleteRange:
    case tags.txn: {
      const result = readOperation(reader, tag);
      if (result.kind === 'range') throw new DecodeError('a range is no result of a command');
      return result;
    }
    case tags.leaseGrant: {
      const revision = reader.unsigned();
      return { kind: 'lease-grant', id: reader.signedId(), ttlSeconds: reader.signed(), revision };
    }
    case tags.clientRegister: {
      const revision = reader.unsigned();
      return { kind: 'client-register', id: reader.unsignedId(), revision };
    }
    case tags.fault: {
      const revision = reader.unsigned();
      return { kind: 'fault', code: readFault(reader), revision };
    }
    default: {
      const revision = reader.unsigned();
      const plain = plainKinds[tag - tags.plain];
      if (plain !== undefined) return { kind: plain, revision };
      const kind = membershipKinds[tag - tags.membership];
      if (kind === undefined) throw new DecodeError(`unknown result ${tag}`);
      const index = reader.unsigned();
      const members = list(reader, () => decodeMember(reader.unsignedId(), reader.bytes()));
      return { kind, index, members, revision };
    }
  }
}

function readFault(reader: BinaryReader): FaultCode {
  const code = reader.text();
  if (!Object.hasOwn(faults, code)) throw new DecodeError(`unknown fault '${code}'`);
  return code as FaultCode;
}

function readOperation(reader: BinaryReader, tag: number): OperationResult {
  const revision = reader.unsigned();
  switch (tag) {
    case tags.put: {
      const prevKv = reader.flags(1) === 1 ? readKeyValue(reader) : undefined;
      return { kind: 'put', prevKv, revision };
    }
    case tags.deleteRange: {
      const deleted = reader.unsigned();
      const prevKvs = list(reader, () => readKeyValue(reader));
      return { kind: 'delete-range', deleted, prevKvs, revision };
    }
    case tags.range: {
      const more = reader.flags(1) === 1;
      const count = reader.unsigned();
      const kvs = list(reader, () => readKeyValue(reader));
      return { kind: 'range', kvs, more, count, revision } satisfies RangeResult;
    }
    case tags.txn: {
      const succeeded = reader.flags(1) === 1;
      const responses = list(reader, () => readOperation(reader, reader.byte()));
      return { kind: 'txn', succeeded, responses, revision };
    }
    default:
      throw new DecodeError(`unknown result of an operation ${tag}`);
  }
}

function readKeyValue(reader: BinaryReader): KeyValue {
  const leased = reader.flags(1) === 1;
  return {
    key: reader.bytes(),
    value: reader.bytes(),
    createRevision: reader.unsigned(),
    modRevision: reader.unsigned(),
    version: reader.unsigned(),
    lease: leased ? reader.signedId() : NO_LEASE,
  };
}

function list<Item>(reader: BinaryReader, item: () => Item): Item[] {
  const count = reader.unsigned();
  // Each takes a byte at least: a wrong count must not allocate before the data ends.
  if (count > reader.remaining) throw new DecodeError('unexpected end of data');
  return Array.from({ length: count }, item);
}
