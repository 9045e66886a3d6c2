/**
 * What the log replicates, and how it is written there.
 *
 * Format: the format's version, the kind, then the kind's fields: flags for what is present, numbers
 * base 128, bytes with their length. A change to it takes a new version byte; old entries stay
 * readable for as long as a log may hold them.
 */
import { unreachable } from './assert.ts';
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
} from './mvcc/binary.ts';
import {
  decodeOperation,
  encodeOperation,
  operationSize,
  requestTags,
} from './mvcc/request-codec.ts';
import type {
  Bytes,
  DeleteRangeRequest,
  DeleteRangeResult,
  FaultResult,
  LeaseId,
  PutRequest,
  PutResult,
  Revision,
  TxnRequest,
  TxnResult,
} from './mvcc/types.ts';
import type { AlarmKind } from './roster.ts';

export type Command =
  | PutRequest
  | DeleteRangeRequest
  | TxnRequest
  /** `physical` concerns only who asked: it waits until the space is free. */
  | { readonly kind: 'compact'; readonly revision: Revision; readonly physical: boolean }
  | { readonly kind: 'lease-grant'; readonly id: LeaseId; readonly ttlSeconds: number }
  | { readonly kind: 'lease-revoke'; readonly id: LeaseId }
  /** Proposed by the leader of `term`; without effect in an entry of another term. */
  | { readonly kind: 'lease-expire'; readonly id: LeaseId; readonly term: number }
  | {
      readonly kind: 'alarm';
      readonly action: 'activate' | 'deactivate';
      readonly memberId: bigint;
      readonly alarm: AlarmKind;
    }
  | {
      readonly kind: 'member';
      readonly memberId: bigint;
      readonly name: string;
      readonly peerUrls: readonly string[];
      readonly clientUrls: readonly string[];
    };

export type CommandResult =
  | PutResult
  | DeleteRangeResult
  | TxnResult
  | {
      readonly kind: 'compact' | 'lease-revoke' | 'lease-expire' | 'member' | 'alarm';
      readonly revision: Revision;
    }
  | {
      readonly kind: 'lease-grant';
      readonly id: LeaseId;
      readonly ttlSeconds: number;
      readonly revision: Revision;
    }
  | FaultResult;

const FORMAT = 1;
const HEAD_BYTES = 2;

/** After the tags of the requests, which share the numbering. */
const tags = {
  ...requestTags,
  compact: 16,
  leaseGrant: 17,
  leaseRevoke: 18,
  leaseExpire: 19,
  alarm: 20,
  member: 21,
} as const;

export function encodeCommand(command: Command): Uint8Array {
  switch (command.kind) {
    case 'put':
    case 'delete-range':
    case 'txn': {
      const result = Buffer.allocUnsafe(1 + operationSize(command));
      result[0] = FORMAT;
      encodeOperation(result, 1, command);
      return result;
    }
    case 'compact': {
      const result = start(tags.compact, 1 + signedSize(command.revision));
      result[HEAD_BYTES] = command.physical ? 1 : 0;
      writeSigned(result, HEAD_BYTES + 1, command.revision);
      return result;
    }
    case 'lease-grant': {
      const result = start(tags.leaseGrant, 8 + signedSize(command.ttlSeconds));
      writeSigned(result, writeId(result, HEAD_BYTES, command.id), command.ttlSeconds);
      return result;
    }
    case 'lease-revoke': {
      const result = start(tags.leaseRevoke, 8);
      writeId(result, HEAD_BYTES, command.id);
      return result;
    }
    case 'lease-expire': {
      const result = start(tags.leaseExpire, 8 + unsignedSize(command.term));
      writeUnsigned(result, writeId(result, HEAD_BYTES, command.id), command.term);
      return result;
    }
    case 'alarm': {
      const result = start(tags.alarm, 9);
      const activate = command.action === 'activate' ? 1 : 0;
      result[HEAD_BYTES] = activate | (command.alarm === 'corrupt' ? 2 : 0);
      writeId(result, HEAD_BYTES + 1, command.memberId);
      return result;
    }
    case 'member': {
      const { name, peerUrls, clientUrls } = command;
      const texts = [name, ...peerUrls, ...clientUrls].map((text) => Buffer.from(text, 'utf8'));
      const counts = unsignedSize(peerUrls.length) + unsignedSize(clientUrls.length);
      const content = texts.reduce((sum, text) => sum + bytesSize(text), 0);
      const result = start(tags.member, 8 + counts + content);
      let at = writeId(result, HEAD_BYTES, command.memberId);
      at = writeUnsigned(result, at, peerUrls.length);
      at = writeUnsigned(result, at, clientUrls.length);
      for (const text of texts) at = writeBytes(result, at, text);
      return result;
    }
    default:
      return unreachable(command);
  }
}

function start(tag: number, contentBytes: number): Buffer {
  const result = Buffer.allocUnsafe(HEAD_BYTES + contentBytes);
  result[0] = FORMAT;
  result[1] = tag;
  return result;
}

/**
 * Keys and values of the result are views on the data.
 *
 * @throws {DecodeError} when the data is not a command.
 */
export function decodeCommand(data: Uint8Array): Command {
  const reader = new BinaryReader(data);
  const format = reader.byte();
  if (format !== FORMAT) {
    throw new DecodeError(`command has format ${format}: this version reads ${FORMAT}`);
  }
  const command = decodeContent(reader);
  if (!reader.atEnd) throw new DecodeError(`${reader.remaining} bytes after the command`);
  return command;
}

function decodeContent(reader: BinaryReader): Command {
  const tag = reader.byte();
  switch (tag) {
    case tags.put:
    case tags.deleteRange:
    case tags.txn: {
      const operation = decodeOperation(reader, tag);
      if (operation.kind === 'range') throw new DecodeError('a range is not a command');
      return operation;
    }
    case tags.compact: {
      const physical = reader.flags(1) === 1;
      return { kind: 'compact', revision: reader.signed(), physical };
    }
    case tags.leaseGrant:
      return { kind: 'lease-grant', id: reader.signedId(), ttlSeconds: reader.signed() };
    case tags.leaseRevoke:
      return { kind: 'lease-revoke', id: reader.signedId() };
    case tags.leaseExpire:
      return { kind: 'lease-expire', id: reader.signedId(), term: reader.unsigned() };
    case tags.alarm: {
      const flags = reader.flags(3);
      return {
        kind: 'alarm',
        action: (flags & 1) === 0 ? 'deactivate' : 'activate',
        memberId: reader.unsignedId(),
        alarm: (flags & 2) === 0 ? 'no-space' : 'corrupt',
      };
    }
    case tags.member: {
      const memberId = reader.unsignedId();
      const peerCount = reader.unsigned();
      const clientCount = reader.unsigned();
      const name = text(reader.bytes());
      const peerUrls = texts(reader, peerCount);
      return { kind: 'member', memberId, name, peerUrls, clientUrls: texts(reader, clientCount) };
    }
    default:
      throw new DecodeError(`unknown command ${tag}`);
  }
}

const text = (bytes: Bytes): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8');

function texts(reader: BinaryReader, count: number): string[] {
  if (count > reader.remaining) throw new DecodeError('unexpected end of data');
  return Array.from({ length: count }, () => text(reader.bytes()));
}
