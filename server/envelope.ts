/**
 * What an entry of the log carries around its command: who proposed it, so that the answer finds the
 * way back, and which call of which client it is, so that it counts once.
 *
 * Format: version 2, flags, the origin's incarnation (8 bytes) and request, with a client its id,
 * sequence and floor, then the command in its own format. Version 1 is a command without envelope,
 * as logs of versions before hold it. No bytes at all are Raft's own request to leave a joint
 * configuration.
 */
import type { ClientCall } from './clients/call.ts';
import { type Command, decodeCommand, encodeCommand } from './command.ts';
import { decodeMembership, encodeMembership, type MembershipCommand } from './membership.ts';
import { BinaryReader, DecodeError, unsignedSize, writeId, writeUnsigned } from './mvcc/binary.ts';

/** One request of one life of a member. */
export type Origin = { readonly incarnation: bigint; readonly request: number };

export type Envelope<Content> = {
  readonly origin: Origin | undefined;
  readonly client: ClientCall | undefined;
  readonly command: Content;
};

const FORMAT = 2;
const BARE_FORMAT = 1;
const HAS_CLIENT = 1;
const ID_BYTES = 8;
const INCARNATION_AT = 2;
const REQUEST_AT = INCARNATION_AT + ID_BYTES;

/** Writes the envelopes of one life of a member, and knows them again. */
export class Envelopes {
  readonly #incarnation = Buffer.alloc(ID_BYTES);

  constructor(incarnation: bigint) {
    writeId(this.#incarnation, 0, incarnation);
  }

  sealCommand(request: number, command: Command, client: ClientCall | undefined): Uint8Array {
    const data = encodeCommand(command, headBytes(request, client));
    this.#writeHead(data, request, client);
    return data;
  }

  sealMembership(
    request: number,
    command: MembershipCommand,
    client: ClientCall | undefined,
  ): Uint8Array {
    const content = encodeMembership(command);
    const head = headBytes(request, client);
    const data = Buffer.allocUnsafe(head + content.length);
    this.#writeHead(data, request, client);
    data.set(content, head);
    return data;
  }

  /** The request of an entry that this life of this member proposed; undefined for all others. */
  requestOf(data: Uint8Array): number | undefined {
    if (data[0] !== FORMAT || data.length <= REQUEST_AT) return undefined;
    for (let index = 0; index < ID_BYTES; index += 1) {
      if (data[INCARNATION_AT + index] !== this.#incarnation[index]) return undefined;
    }
    return new BinaryReader(data, REQUEST_AT).unsigned();
  }

  #writeHead(target: Uint8Array, request: number, client: ClientCall | undefined): void {
    target[0] = FORMAT;
    target[1] = client === undefined ? 0 : HAS_CLIENT;
    target.set(this.#incarnation, INCARNATION_AT);
    const at = writeUnsigned(target, REQUEST_AT, request);
    if (client === undefined) return;
    const next = writeUnsigned(target, writeId(target, at, client.id), client.sequence);
    writeUnsigned(target, next, client.floor);
  }
}

function headBytes(request: number, client: ClientCall | undefined): number {
  const origin = REQUEST_AT + unsignedSize(request);
  if (client === undefined) return origin;
  return origin + ID_BYTES + unsignedSize(client.sequence) + unsignedSize(client.floor);
}

/**
 * The content of an entry of kind `command`, of this or an earlier version.
 *
 * @throws {DecodeError} when the data is no such entry.
 */
export const openCommand = (data: Uint8Array): Envelope<Command> => open(data, decodeCommand);

/**
 * The content of an entry of kind `configuration`.
 *
 * @throws {DecodeError} when the data is no such entry.
 */
export const openMembership = (data: Uint8Array): Envelope<MembershipCommand> =>
  data.length === 0
    ? { origin: undefined, client: undefined, command: { kind: 'member-leave' } }
    : open(data, decodeMembership);

function open<Content>(
  data: Uint8Array,
  decode: (content: Uint8Array) => Content,
): Envelope<Content> {
  if (data[0] === BARE_FORMAT) {
    return { origin: undefined, client: undefined, command: decode(data) };
  }
  const reader = new BinaryReader(data);
  const format = reader.byte();
  if (format !== FORMAT) {
    throw new DecodeError(
      `entry has format ${format}: this version reads ${BARE_FORMAT} and ${FORMAT}`,
    );
  }
  const hasClient = reader.flags(HAS_CLIENT) === HAS_CLIENT;
  const origin = { incarnation: reader.unsignedId(), request: reader.unsigned() };
  const client = hasClient
    ? { id: reader.unsignedId(), sequence: reader.unsigned(), floor: reader.unsigned() }
    : undefined;
  return { origin, client, command: decode(reader.rest()) };
}
