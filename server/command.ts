/**
 * What the log replicates, and how it is written there.
 *
 * Format: the format's version, the kind, then the kind's fields: flags for what is present, numbers
 * base 128, bytes with their length. A change to it takes a new version byte; old entries stay
 * readable for as long as a log may hold them.
 */
import { unreachable } from './assert.ts';
import type { ClientId } from './clients/call.ts';
import type { MembershipCommand } from './membership.ts';
import {
  BinaryReader,
  bytesSize,
  DecodeError,
  encodeTexts,
  signedSize,
  unsignedSize,
  writeBytes,
  writeId,
  writeSigned,
  writeTexts,
  writeUnsigned,
} from './mvcc/binary.ts';
import {
  decodeOperation,
  encodeOperation,
  operationSize,
  requestTags,
} from './mvcc/request-codec.ts';
import type {
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
import type { AlarmKind, MemberFact } from './roster.ts';

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
  /** How the only member introduced itself before there could be several; old logs hold it. */
  | {
      readonly kind: 'member';
      readonly memberId: bigint;
      readonly name: string;
      readonly peerUrls: readonly string[];
      readonly clientUrls: readonly string[];
    }
  /** A member that started says who it is; `incarnation` is its data directory's. */
  | {
      readonly kind: 'introduce';
      readonly memberId: bigint;
      readonly name: string;
      readonly clientUrls: readonly string[];
      readonly incarnation: bigint;
    }
  | {
      readonly kind: 'member-update';
      readonly memberId: bigint;
      readonly peerUrls: readonly string[];
    }
  | { readonly kind: 'client-register' }
  /**
   * In place of a numbered write that the member which was asked did not let in: under its number, so
   * that either the write's first answer comes back, or no attempt at it can take effect any more.
   */
  | { readonly kind: 'refuse'; readonly fault: AlarmKind }
  | { readonly kind: 'client-forget'; readonly id: ClientId }
  /**
   * Proposed by the leader of `term`; without effect in an entry of another term, or when an entry
   * after `idleSince` was the client's.
   */
  | {
      readonly kind: 'client-expire';
      readonly id: ClientId;
      readonly term: number;
      readonly idleSince: number;
    };

/** What tells no more than that it took effect. */
export type PlainResultKind =
  | 'compact'
  | 'lease-revoke'
  | 'lease-expire'
  | 'alarm'
  | 'member'
  | 'introduce'
  | 'client-forget'
  | 'client-expire';

export type MembershipResultKind = MembershipCommand['kind'] | 'member-update';

export type CommandResult =
  | PutResult
  | DeleteRangeResult
  | TxnResult
  | { readonly kind: PlainResultKind; readonly revision: Revision }
  | {
      readonly kind: 'lease-grant';
      readonly id: LeaseId;
      readonly ttlSeconds: number;
      readonly revision: Revision;
    }
  | { readonly kind: 'client-register'; readonly id: ClientId; readonly revision: Revision }
  | {
      readonly kind: MembershipResultKind;
      /** The entry that made the change. */
      readonly index: number;
      /** All members after the change, in order of id. */
      readonly members: readonly MemberFact[];
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
  introduce: 22,
  memberUpdate: 23,
  clientRegister: 24,
  clientForget: 25,
  clientExpire: 26,
  refuse: 27,
} as const;

/** Leaves `reserved` bytes free in front of the command, so that an envelope costs no copy. */
export function encodeCommand(command: Command, reserved = 0): Uint8Array {
  const at = reserved + HEAD_BYTES;
  const start = (tag: number, contentBytes: number): Buffer => {
    const result = Buffer.allocUnsafe(at + contentBytes);
    result[reserved] = FORMAT;
    result[reserved + 1] = tag;
    return result;
  };
  switch (command.kind) {
    case 'put':
    case 'delete-range':
    case 'txn': {
      const result = Buffer.allocUnsafe(reserved + 1 + operationSize(command));
      result[reserved] = FORMAT;
      encodeOperation(result, reserved + 1, command);
      return result;
    }
    case 'compact': {
      const result = start(tags.compact, 1 + signedSize(command.revision));
      result[at] = command.physical ? 1 : 0;
      writeSigned(result, at + 1, command.revision);
      return result;
    }
    case 'lease-grant': {
      const result = start(tags.leaseGrant, 8 + signedSize(command.ttlSeconds));
      writeSigned(result, writeId(result, at, command.id), command.ttlSeconds);
      return result;
    }
    case 'lease-revoke':
    case 'client-forget': {
      const isLease = command.kind === 'lease-revoke';
      const result = start(isLease ? tags.leaseRevoke : tags.clientForget, 8);
      writeId(result, at, command.id);
      return result;
    }
    case 'lease-expire': {
      const result = start(tags.leaseExpire, 8 + unsignedSize(command.term));
      writeUnsigned(result, writeId(result, at, command.id), command.term);
      return result;
    }
    case 'alarm': {
      const result = start(tags.alarm, 9);
      const activate = command.action === 'activate' ? 1 : 0;
      result[at] = activate | (command.alarm === 'corrupt' ? 2 : 0);
      writeId(result, at + 1, command.memberId);
      return result;
    }
    case 'member': {
      const { name, peerUrls, clientUrls } = command;
      const fields = [name, ...peerUrls, ...clientUrls].map((field) => Buffer.from(field, 'utf8'));
      const counts = unsignedSize(peerUrls.length) + unsignedSize(clientUrls.length);
      const content = fields.reduce((sum, field) => sum + bytesSize(field), 0);
      const result = start(tags.member, 8 + counts + content);
      let end = writeId(result, at, command.memberId);
      end = writeUnsigned(result, end, peerUrls.length);
      end = writeUnsigned(result, end, clientUrls.length);
      for (const field of fields) end = writeBytes(result, end, field);
      return result;
    }
    case 'introduce': {
      const texts = encodeTexts([command.name, ...command.clientUrls]);
      const result = start(tags.introduce, 16 + texts.size);
      const next = writeId(result, at, command.memberId);
      writeTexts(result, writeId(result, next, command.incarnation), texts);
      return result;
    }
    case 'member-update': {
      const texts = encodeTexts(command.peerUrls);
      const result = start(tags.memberUpdate, 8 + texts.size);
      writeTexts(result, writeId(result, at, command.memberId), texts);
      return result;
    }
    case 'client-register':
      return start(tags.clientRegister, 0);
    case 'refuse': {
      const result = start(tags.refuse, 1);
      result[at] = command.fault === 'corrupt' ? 1 : 0;
      return result;
    }
    case 'client-expire': {
      const { id, term, idleSince } = command;
      const result = start(tags.clientExpire, 8 + unsignedSize(term) + unsignedSize(idleSince));
      writeUnsigned(result, writeUnsigned(result, writeId(result, at, id), term), idleSince);
      return result;
    }
    default:
      return unreachable(command);
  }
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
      const name = reader.text();
      const peerUrls = reader.texts(peerCount);
      return { kind: 'member', memberId, name, peerUrls, clientUrls: reader.texts(clientCount) };
    }
    case tags.introduce: {
      const memberId = reader.unsignedId();
      const incarnation = reader.unsignedId();
      const [name, ...clientUrls] = reader.texts();
      if (name === undefined) throw new DecodeError('a member without a name');
      return { kind: 'introduce', memberId, name, clientUrls, incarnation };
    }
    case tags.memberUpdate:
      return { kind: 'member-update', memberId: reader.unsignedId(), peerUrls: reader.texts() };
    case tags.clientRegister:
      return { kind: 'client-register' };
    case tags.refuse:
      return { kind: 'refuse', fault: reader.flags(1) === 0 ? 'no-space' : 'corrupt' };
    case tags.clientForget:
      return { kind: 'client-forget', id: reader.unsignedId() };
    case tags.clientExpire:
      return {
        kind: 'client-expire',
        id: reader.unsignedId(),
        term: reader.unsigned(),
        idleSince: reader.unsigned(),
      };
    default:
      throw new DecodeError(`unknown command ${tag}`);
  }
}
