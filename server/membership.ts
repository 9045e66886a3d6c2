/**
 * Changes of who is a member and who votes: the data of log entries of kind `configuration`.
 *
 * Format: as of commands, with tags of its own. No data at all means that a joint configuration is
 * left, which Raft proposes by itself.
 */
import { unreachable } from './assert.ts';
import {
  BinaryReader,
  DecodeError,
  encodeTexts,
  unsignedSize,
  writeId,
  writeTexts,
  writeUnsigned,
} from './mvcc/binary.ts';

/** A voter that a cluster is founded with. */
export type Founder = {
  readonly id: bigint;
  readonly name: string;
  readonly peerUrls: readonly string[];
};

export type MembershipCommand =
  /** The first entry of a log; without effect where there are members. */
  | { readonly kind: 'bootstrap'; readonly members: readonly Founder[] }
  | {
      readonly kind: 'member-add';
      readonly id: bigint;
      readonly peerUrls: readonly string[];
      readonly isLearner: boolean;
    }
  /** Its id is never used again. */
  | { readonly kind: 'member-remove'; readonly id: bigint }
  /** A learner becomes a voter. */
  | { readonly kind: 'member-promote'; readonly id: bigint }
  /** A learner takes the place of a voter, in one joint change: no step has fewer voters. */
  | { readonly kind: 'member-replace'; readonly learner: bigint; readonly old: bigint }
  | { readonly kind: 'member-leave' };

const FORMAT = 1;
const HEAD_BYTES = 2;
const tags = { bootstrap: 31, add: 32, remove: 33, promote: 34, replace: 35 } as const;

export function encodeMembership(command: MembershipCommand): Uint8Array {
  switch (command.kind) {
    case 'bootstrap': {
      const founders = command.members.map(({ id, name, peerUrls }) => ({
        id,
        texts: encodeTexts([name, ...peerUrls]),
      }));
      const content = founders.reduce((sum, { texts }) => sum + 8 + texts.size, 0);
      const result = start(tags.bootstrap, unsignedSize(founders.length) + content);
      let at = writeUnsigned(result, HEAD_BYTES, founders.length);
      for (const { id, texts } of founders) at = writeTexts(result, writeId(result, at, id), texts);
      return result;
    }
    case 'member-add': {
      const urls = encodeTexts(command.peerUrls);
      const result = start(tags.add, 9 + urls.size);
      result[HEAD_BYTES] = command.isLearner ? 1 : 0;
      writeTexts(result, writeId(result, HEAD_BYTES + 1, command.id), urls);
      return result;
    }
    case 'member-remove':
      return withIds(tags.remove, command.id);
    case 'member-promote':
      return withIds(tags.promote, command.id);
    case 'member-replace':
      return withIds(tags.replace, command.learner, command.old);
    case 'member-leave':
      return Buffer.alloc(0);
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

function withIds(tag: number, ...ids: readonly bigint[]): Buffer {
  const result = start(tag, 8 * ids.length);
  let at = HEAD_BYTES;
  for (const id of ids) at = writeId(result, at, id);
  return result;
}

/** @throws {DecodeError} when the data is not a change of members. */
export function decodeMembership(data: Uint8Array): MembershipCommand {
  if (data.length === 0) return { kind: 'member-leave' };
  const reader = new BinaryReader(data);
  const format = reader.byte();
  if (format !== FORMAT) {
    throw new DecodeError(`membership change has format ${format}: this version reads ${FORMAT}`);
  }
  const command = decodeContent(reader);
  if (!reader.atEnd) throw new DecodeError(`${reader.remaining} bytes after the membership change`);
  return command;
}

function decodeContent(reader: BinaryReader): MembershipCommand {
  const tag = reader.byte();
  switch (tag) {
    case tags.bootstrap: {
      const count = reader.unsigned();
      // Each takes a byte at least: a wrong count must not allocate before the data ends.
      if (count > reader.remaining) throw new DecodeError('unexpected end of data');
      return { kind: 'bootstrap', members: Array.from({ length: count }, () => founder(reader)) };
    }
    case tags.add: {
      const isLearner = reader.flags(1) === 1;
      const id = reader.unsignedId();
      return { kind: 'member-add', id, peerUrls: reader.texts(), isLearner };
    }
    case tags.remove:
      return { kind: 'member-remove', id: reader.unsignedId() };
    case tags.promote:
      return { kind: 'member-promote', id: reader.unsignedId() };
    case tags.replace:
      return { kind: 'member-replace', learner: reader.unsignedId(), old: reader.unsignedId() };
    default:
      throw new DecodeError(`unknown membership change ${tag}`);
  }
}

function founder(reader: BinaryReader): Founder {
  const id = reader.unsignedId();
  const [name, ...peerUrls] = reader.texts();
  if (name === undefined) throw new DecodeError('a member without a name');
  return { id, name, peerUrls };
}
