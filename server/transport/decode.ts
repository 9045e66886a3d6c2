/**
 * Raft's messages out of `conclave.v1.Frame`s. Checks everything that Raft takes for granted of a
 * message, so that nothing but a `MalformedFrame` comes of bad bytes.
 */
import type { Configuration } from '../raft/configuration.ts';
import type { Entry, EntryKind, Message, NodeId, Proposal } from '../raft/message.ts';
import { bodies, entryKinds, refusals } from './message-fields.ts';
import { MalformedFrame, ProtobufReader } from './protobuf.ts';

/** Bounds on what a few bytes can unfold to. */
const MAX_FRAME_MESSAGES = 4_096;
const MAX_ENTRIES = 262_144;

/** Throws `MalformedFrame`. The entries are views on `frame`. */
export function decodeFrame(frame: Buffer, from: NodeId, to: NodeId): Message[] {
  const reader = new ProtobufReader(frame);
  const messages: Message[] = [];
  for (let field = reader.field(); field !== 0; field = reader.field()) {
    if (field !== 1) {
      reader.skip();
      continue;
    }
    if (messages.length === MAX_FRAME_MESSAGES) throw new MalformedFrame('too many messages');
    const outer = reader.enter();
    messages.push(readMessage(reader, from, to));
    reader.leave(outer);
  }
  return messages;
}

/** Throws `MalformedFrame`. */
export function decodeMessage(bytes: Buffer, from: NodeId, to: NodeId): Message {
  return readMessage(new ProtobufReader(bytes), from, to);
}

/** A body without its envelope. */
type Body = BodyOf<Message>;
type BodyOf<M> = M extends Message ? Omit<M, 'from' | 'to' | 'term'> : never;

function readMessage(reader: ProtobufReader, from: NodeId, to: NodeId): Message {
  let term = 0;
  let body: Body | undefined;
  for (let field = reader.field(); field !== 0; field = reader.field()) {
    if (field === 1) {
      term = reader.number();
      continue;
    }
    const read = readers[field];
    if (read === undefined) {
      reader.skip();
      continue;
    }
    if (body !== undefined) throw new MalformedFrame('a message has two bodies');
    const outer = reader.enter();
    body = read(reader);
    reader.leave(outer);
  }
  if (body === undefined) throw new MalformedFrame('a message has no body');
  if (term === 0) throw new MalformedFrame(`a ${body.kind} has no term`);
  const message = { ...body, from, to, term } as Message;
  if (message.kind === 'append') checkTerms(message.prevTerm, message.entries, term);
  return message;
}

/** Terms never fall along a log, and no entry is younger than the leader's term. */
function checkTerms(prevTerm: number, entries: readonly Entry[], term: number): void {
  let last = prevTerm;
  for (const entry of entries) {
    if (entry.term < last) throw new MalformedFrame('the terms of an append fall');
    last = entry.term;
  }
  if (last > term) throw new MalformedFrame('an append is older than its entries');
}

type Reader = (reader: ProtobufReader) => Body;

const readers: Readonly<Record<number, Reader>> = {
  [bodies['pre-vote']]: (reader) => {
    const { lastIndex, lastTerm } = readCandidate(reader);
    return { kind: 'pre-vote', lastIndex, lastTerm };
  },
  [bodies['pre-vote-response']]: (reader) => ({
    kind: 'pre-vote-response',
    ...readVerdict(reader),
  }),
  [bodies.vote]: (reader) => ({ kind: 'vote', ...readCandidate(reader) }),
  [bodies['vote-response']]: (reader) => ({ kind: 'vote-response', ...readVerdict(reader) }),
  [bodies.append]: readAppend,
  [bodies['append-accepted']]: (reader) => {
    const [matchIndex] = readNumbers(reader);
    return { kind: 'append-accepted', matchIndex };
  },
  [bodies['append-rejected']]: (reader) => {
    const [rejectedIndex, hintIndex, hintTerm] = readNumbers(reader);
    return { kind: 'append-rejected', rejectedIndex, hintIndex, hintTerm };
  },
  [bodies.heartbeat]: (reader) => {
    const [commit, context] = readNumbers(reader);
    return { kind: 'heartbeat', commit, context };
  },
  [bodies['heartbeat-response']]: (reader) => {
    const [context, matchIndex] = readNumbers(reader);
    return { kind: 'heartbeat-response', context, matchIndex };
  },
  [bodies['timeout-now']]: (reader) => {
    const [lastIndex] = readNumbers(reader);
    return { kind: 'timeout-now', lastIndex };
  },
  [bodies['read-index']]: (reader) => {
    const { incarnation, request } = readRequest(reader);
    return { kind: 'read-index', incarnation, request };
  },
  [bodies['read-index-response']]: (reader) => {
    const { incarnation, request, third } = readRequest(reader);
    return { kind: 'read-index-response', incarnation, request, index: third };
  },
  [bodies.snapshot]: readSnapshot,
  [bodies.propose]: readPropose,
  [bodies['propose-refused']]: (reader) => {
    const { incarnation, request, third } = readRequest(reader);
    const reason = refusals.get(third);
    if (reason === undefined) throw new MalformedFrame(`unknown reason ${third} of a refusal`);
    return { kind: 'propose-refused', incarnation, request, reason };
  },
};

/** Up to three numbers, in fields 1 to 3. */
function readNumbers(reader: ProtobufReader): [number, number, number] {
  const numbers: [number, number, number] = [0, 0, 0];
  for (let field = reader.field(); field !== 0; field = reader.field()) {
    if (field <= 3) numbers[field - 1] = reader.number();
    else reader.skip();
  }
  return numbers;
}

function readVerdict(reader: ProtobufReader) {
  const [granted, commitIndex, commitTerm] = readNumbers(reader);
  return { granted: granted !== 0, commitIndex, commitTerm };
}

function readCandidate(reader: ProtobufReader) {
  const [lastIndex, lastTerm, transfer] = readNumbers(reader);
  return { lastIndex, lastTerm, transfer: transfer !== 0 };
}

/** A request of one incarnation of a member, and a number. */
function readRequest(reader: ProtobufReader) {
  let incarnation = 0n;
  let request = 0;
  let third = 0;
  for (let field = reader.field(); field !== 0; field = reader.field()) {
    if (field === 1) incarnation = reader.id();
    else if (field === 2) request = reader.number();
    else if (field === 3) third = reader.number();
    else reader.skip();
  }
  return { incarnation, request, third };
}

function readAppend(reader: ProtobufReader): Body {
  let prevIndex = 0;
  let prevTerm = 0;
  let commit = 0;
  const parts: Payload[] = [];
  for (let field = reader.field(); field !== 0; field = reader.field()) {
    if (field === 1) prevIndex = reader.number();
    else if (field === 2) prevTerm = reader.number();
    else if (field === 3) commit = reader.number();
    else if (field === 4) parts.push(readEntry(reader, parts.length));
    else reader.skip();
  }
  if (prevIndex + parts.length > Number.MAX_SAFE_INTEGER) {
    throw new MalformedFrame('the indexes of an append exceed 2^53 - 1');
  }
  // Fields may come in any order, so the indexes are known only now.
  const entries = parts.map(
    ({ term, kind, data }, offset): Entry => ({ index: prevIndex + 1 + offset, term, kind, data }),
  );
  return { kind: 'append', prevIndex, prevTerm, entries, commit };
}

type Payload = { readonly term: number; readonly kind: EntryKind; readonly data: Uint8Array };

function readEntry(reader: ProtobufReader, count: number): Payload {
  checkCount(count);
  let term = 0;
  let kind = 0;
  let data: Uint8Array = NOTHING;
  const outer = reader.enter();
  for (let field = reader.field(); field !== 0; field = reader.field()) {
    if (field === 1) term = reader.number();
    else if (field === 2) kind = reader.number();
    else if (field === 3) data = reader.bytes();
    else reader.skip();
  }
  reader.leave(outer);
  if (term === 0) throw new MalformedFrame('an entry has no term');
  return { term, kind: entryKindOf(kind), data };
}

function readPropose(reader: ProtobufReader): Body {
  let incarnation = 0n;
  let request = 0;
  const proposals: Proposal[] = [];
  for (let field = reader.field(); field !== 0; field = reader.field()) {
    if (field === 1) incarnation = reader.id();
    else if (field === 2) request = reader.number();
    else if (field === 3) proposals.push(readProposal(reader, proposals.length));
    else reader.skip();
  }
  return { kind: 'propose', incarnation, request, proposals };
}

function readProposal(reader: ProtobufReader, count: number): Proposal {
  checkCount(count);
  let kind = 0;
  let data: Uint8Array = NOTHING;
  const outer = reader.enter();
  for (let field = reader.field(); field !== 0; field = reader.field()) {
    if (field === 1) kind = reader.number();
    else if (field === 2) data = reader.bytes();
    else reader.skip();
  }
  reader.leave(outer);
  return { kind: entryKindOf(kind), data };
}

const NOTHING: Uint8Array = Buffer.alloc(1).subarray(1);

function checkCount(count: number): void {
  if (count === MAX_ENTRIES) throw new MalformedFrame('too many entries');
}

function entryKindOf(number: number): EntryKind {
  const kind = entryKinds[number];
  if (kind === undefined) throw new MalformedFrame(`unknown kind ${number} of an entry`);
  return kind;
}

function readSnapshot(reader: ProtobufReader): Body {
  let index = 0;
  let indexTerm = 0;
  let configuration: Configuration | undefined;
  for (let field = reader.field(); field !== 0; field = reader.field()) {
    if (field === 1) index = reader.number();
    else if (field === 2) indexTerm = reader.number();
    else if (field === 3) configuration = readConfiguration(reader);
    else reader.skip();
  }
  if (index === 0 || indexTerm === 0 || configuration === undefined) {
    throw new MalformedFrame('a snapshot lacks its position or its configuration');
  }
  return { kind: 'snapshot', index, indexTerm, configuration };
}

function readConfiguration(reader: ProtobufReader): Configuration {
  const configuration = {
    voters: [] as NodeId[],
    outgoing: [] as NodeId[],
    learners: [] as NodeId[],
    learnersNext: [] as NodeId[],
    autoLeave: false,
  };
  const outer = reader.enter();
  for (let field = reader.field(); field !== 0; field = reader.field()) {
    if (field === 1) configuration.voters = readIds(reader);
    else if (field === 2) configuration.outgoing = readIds(reader);
    else if (field === 3) configuration.learners = readIds(reader);
    else if (field === 4) configuration.learnersNext = readIds(reader);
    else if (field === 5) configuration.autoLeave = reader.flag();
    else reader.skip();
  }
  reader.leave(outer);
  return configuration;
}

function readIds(reader: ProtobufReader): NodeId[] {
  const ids = reader.ids();
  let last = 0n;
  for (const id of ids) {
    if (id <= last) throw new MalformedFrame('the ids of a configuration do not ascend from 1');
    last = id;
  }
  return ids;
}
