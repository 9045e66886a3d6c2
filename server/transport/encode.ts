/**
 * Raft's messages as `conclave.v1.Frame`s, written by hand: see `protobuf.ts`.
 */
import { unreachable } from '../assert.ts';
import type { Configuration } from '../raft/configuration.ts';
import type { Entry, Message, Proposal } from '../raft/message.ts';
import { bodies, entryKindNumbers, refusalNumbers } from './message-fields.ts';
import {
  bytesFieldSize,
  flagSize,
  idSize,
  idsSize,
  inlineSize,
  numberSize,
  ProtobufWriter,
} from './protobuf.ts';

/** Sizes of the parts of one message, so that each is computed once. */
type Size = {
  /** Of the body field's content. */
  body: number;
  /** How much of `body` is written by reference. */
  referenced: number;
};

function measure(message: Message): Size {
  let referenced = 0;
  const data = (bytes: Uint8Array) => {
    if (bytes.length === 0) return 0;
    referenced += bytes.length - inlineSize(bytes.length);
    return bytesFieldSize(bytes.length);
  };
  const body = (): number => {
    switch (message.kind) {
      case 'pre-vote':
        return numberSize(message.lastIndex) + numberSize(message.lastTerm);
      case 'vote':
        return (
          numberSize(message.lastIndex) + numberSize(message.lastTerm) + flagSize(message.transfer)
        );
      case 'pre-vote-response':
      case 'vote-response':
        return (
          flagSize(message.granted) +
          numberSize(message.commitIndex) +
          numberSize(message.commitTerm)
        );
      case 'append': {
        let size =
          numberSize(message.prevIndex) + numberSize(message.prevTerm) + numberSize(message.commit);
        for (const entry of message.entries) {
          size += bytesFieldSize(entryHeadSize(entry) + data(entry.data));
        }
        return size;
      }
      case 'append-accepted':
        return numberSize(message.matchIndex);
      case 'timeout-now':
        return numberSize(message.lastIndex);
      case 'append-rejected':
        return (
          numberSize(message.rejectedIndex) +
          numberSize(message.hintIndex) +
          numberSize(message.hintTerm)
        );
      case 'heartbeat':
        return numberSize(message.commit) + numberSize(message.context);
      case 'heartbeat-response':
        return numberSize(message.context) + numberSize(message.matchIndex);
      case 'read-index':
        return idSize(message.incarnation) + numberSize(message.request);
      case 'read-index-response':
        return (
          idSize(message.incarnation) + numberSize(message.request) + numberSize(message.index)
        );
      case 'snapshot':
        return (
          numberSize(message.index) +
          numberSize(message.indexTerm) +
          bytesFieldSize(configurationSize(message.configuration))
        );
      case 'propose': {
        let size = idSize(message.incarnation) + numberSize(message.request);
        for (const proposal of message.proposals) {
          size += bytesFieldSize(proposalHeadSize(proposal) + data(proposal.data));
        }
        return size;
      }
      case 'propose-refused':
        return (
          idSize(message.incarnation) +
          numberSize(message.request) +
          numberSize(refusalNumbers[message.reason])
        );
      default:
        return unreachable(message);
    }
  };
  return { body: body(), referenced };
}

const entryHeadSize = (entry: Entry): number =>
  numberSize(entry.term) + numberSize(entryKindNumbers[entry.kind]);

const proposalHeadSize = (proposal: Proposal): number =>
  numberSize(entryKindNumbers[proposal.kind]);

const dataSize = (bytes: Uint8Array): number =>
  bytes.length === 0 ? 0 : bytesFieldSize(bytes.length);

const configurationSize = (configuration: Configuration): number =>
  idsSize(configuration.voters) +
  idsSize(configuration.outgoing) +
  idsSize(configuration.learners) +
  idsSize(configuration.learnersNext) +
  flagSize(configuration.autoLeave);

function writeBody(writer: ProtobufWriter, message: Message): void {
  switch (message.kind) {
    case 'pre-vote':
      writer.number(1, message.lastIndex);
      writer.number(2, message.lastTerm);
      return;
    case 'vote':
      writer.number(1, message.lastIndex);
      writer.number(2, message.lastTerm);
      writer.flag(3, message.transfer);
      return;
    case 'pre-vote-response':
    case 'vote-response':
      writer.flag(1, message.granted);
      writer.number(2, message.commitIndex);
      writer.number(3, message.commitTerm);
      return;
    case 'append':
      writer.number(1, message.prevIndex);
      writer.number(2, message.prevTerm);
      writer.number(3, message.commit);
      for (const entry of message.entries) {
        writer.begin(4, entryHeadSize(entry) + dataSize(entry.data));
        writer.number(1, entry.term);
        writer.number(2, entryKindNumbers[entry.kind]);
        writer.bytes(3, entry.data);
      }
      return;
    case 'append-accepted':
      writer.number(1, message.matchIndex);
      return;
    case 'append-rejected':
      writer.number(1, message.rejectedIndex);
      writer.number(2, message.hintIndex);
      writer.number(3, message.hintTerm);
      return;
    case 'heartbeat':
      writer.number(1, message.commit);
      writer.number(2, message.context);
      return;
    case 'heartbeat-response':
      writer.number(1, message.context);
      writer.number(2, message.matchIndex);
      return;
    case 'timeout-now':
      writer.number(1, message.lastIndex);
      return;
    case 'read-index':
      writer.id(1, message.incarnation);
      writer.number(2, message.request);
      return;
    case 'read-index-response':
      writer.id(1, message.incarnation);
      writer.number(2, message.request);
      writer.number(3, message.index);
      return;
    case 'snapshot': {
      const { configuration } = message;
      writer.number(1, message.index);
      writer.number(2, message.indexTerm);
      writer.begin(3, configurationSize(configuration));
      writer.ids(1, configuration.voters);
      writer.ids(2, configuration.outgoing);
      writer.ids(3, configuration.learners);
      writer.ids(4, configuration.learnersNext);
      writer.flag(5, configuration.autoLeave);
      return;
    }
    case 'propose':
      writer.id(1, message.incarnation);
      writer.number(2, message.request);
      for (const proposal of message.proposals) {
        writer.begin(3, proposalHeadSize(proposal) + dataSize(proposal.data));
        writer.number(1, entryKindNumbers[proposal.kind]);
        writer.bytes(2, proposal.data);
      }
      return;
    case 'propose-refused':
      writer.id(1, message.incarnation);
      writer.number(2, message.request);
      writer.number(3, refusalNumbers[message.reason]);
      return;
    default:
      unreachable(message);
  }
}

const messageSize = (message: Message, size: Size): number => {
  const field = bytesFieldSize(size.body);
  // The tag of a field above 15 takes a second byte.
  return numberSize(message.term) + field + (bodies[message.kind] > 15 ? 1 : 0);
};

function writeMessage(writer: ProtobufWriter, message: Message, size: Size): void {
  writer.number(1, message.term);
  writer.begin(bodies[message.kind], size.body);
  writeBody(writer, message);
}

export type EncodedFrame = {
  /** To be sent in this order; the first has `headBytes` free bytes at its beginning. */
  readonly pieces: readonly Buffer[];
  /** Of the frame, without those free bytes. */
  readonly bytes: number;
};

/**
 * One frame of the messages, in order. Entries longer than a few KiB are passed on by reference, so
 * they must not change until the frame is sent.
 */
export function encodeFrame(messages: readonly Message[], headBytes = 0): EncodedFrame {
  const sizes = messages.map(measure);
  let bytes = 0;
  let referenced = 0;
  messages.forEach((message, index) => {
    const size = sizes[index] as Size;
    bytes += bytesFieldSize(messageSize(message, size));
    referenced += size.referenced;
  });
  const writer = new ProtobufWriter(headBytes + bytes - referenced, headBytes);
  messages.forEach((message, index) => {
    const size = sizes[index] as Size;
    writer.begin(1, messageSize(message, size));
    writeMessage(writer, message, size);
  });
  return { pieces: writer.finish(), bytes };
}

/** One message by itself, as the beginning of a snapshot carries it. */
export function encodeMessage(message: Message): Buffer {
  const size = measure(message);
  const writer = new ProtobufWriter(messageSize(message, size) - size.referenced);
  writeMessage(writer, message, size);
  return Buffer.concat(writer.finish());
}
