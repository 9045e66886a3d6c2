/**
 * Clients whose `:authority` is no authority, such as etcdctl 3.4, which puts a whole URL there when
 * it asks each endpoint for its status. Servers in Go do not mind; Node refuses the call before grpc-js
 * sees it. Nobody here looks at the value either, so the first one of a connection is replaced:
 * the client refers back to it from then on (HPACK, RFC 7541).
 *
 * Such clients wait for the server's SETTINGS before they send any call. So that first frame is sent
 * from here, and its acknowledgement taken off again: Node sends, and waits for, its own.
 */
import type { Socket } from 'node:net';

const PREFACE_BYTES = 24;
const FRAME_HEAD_BYTES = 9;
const HEADERS = 1;
const SETTINGS = 4;
const WINDOW_UPDATE = 8;
const ACK = 1;
const PADDED = 0x08;
const PRIORITY = 0x20;
const EMPTY_SETTINGS = Buffer.from([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]);
/** More than HTTP/2's first window lets a client send before it has the server's word. */
const MAX_BYTES = 256 * 1024;
const REPLACEMENT = Buffer.from('localhost', 'latin1');

/**
 * Calls `ready` once, with what was read put back: when a call has begun, when the client shows that
 * it does not need this, or after `timeoutMs`. A client that does not acknowledge the settings, or
 * leaves before, is given up.
 */
export function mendAuthority(socket: Socket, timeoutMs: number, ready: () => void): void {
  let seen: Buffer = Buffer.alloc(0);
  let isAsked = false;
  const finish = () => {
    clearTimeout(timer);
    socket.off('readable', onReadable);
    socket.off('error', giveUp);
    socket.off('close', finish);
  };
  const giveUp = () => socket.destroy();
  const handOver = () => {
    const opening = parseOpening(seen);
    // Node would not know what is acknowledged there.
    if (isAsked && opening.acknowledgement === undefined) {
      giveUp();
      return;
    }
    finish();
    if (seen.length > 0) socket.unshift(isAsked ? mended(seen, opening) : seen);
    ready();
  };
  const timer = setTimeout(handOver, timeoutMs);
  const onReadable = () => {
    const chunk: Buffer | null = socket.read();
    if (chunk === null) return;
    seen = seen.length === 0 ? chunk : Buffer.concat([seen, chunk]);
    const { kind, acknowledgement } = parseOpening(seen);
    if (seen.length >= MAX_BYTES) handOver();
    else if (kind !== 'waits') {
      if (!isAsked || acknowledgement !== undefined) handOver();
    } else if (!isAsked) {
      isAsked = true;
      socket.write(EMPTY_SETTINGS);
    }
  };
  socket.on('readable', onReadable);
  socket.on('error', giveUp);
  socket.on('close', finish);
}

type Span = { readonly start: number; readonly end: number };
type Opening = {
  /** `waits`: nothing but settings so far. */
  readonly kind: 'waits' | 'calls' | 'other';
  readonly headers?: Span;
  readonly acknowledgement?: Span;
};

/**
 * What follows the preface. The acknowledgement may come before the first call or behind it: clients
 * send both as soon as they can.
 */
function parseOpening(bytes: Buffer): Opening {
  let kind: Opening['kind'] = 'waits';
  let headers: Span | undefined;
  let acknowledgement: Span | undefined;
  let at = PREFACE_BYTES;
  while (at + FRAME_HEAD_BYTES <= bytes.length) {
    const end = at + FRAME_HEAD_BYTES + bytes.readUIntBE(at, 3);
    const type = bytes[at + 3];
    const flags = bytes[at + 4] ?? 0;
    if (end > bytes.length) break;
    const span = { start: at, end };
    if (type === SETTINGS && (flags & ACK) !== 0) acknowledgement ??= span;
    else if (type === HEADERS && kind === 'waits') {
      kind = 'calls';
      headers = span;
    } else if (type !== SETTINGS && type !== WINDOW_UPDATE && kind === 'waits') kind = 'other';
    at = end;
  }
  return {
    kind,
    ...(headers === undefined ? {} : { headers }),
    ...(acknowledgement === undefined ? {} : { acknowledgement }),
  };
}

function mended(bytes: Buffer, { headers, acknowledgement }: Opening): Buffer {
  const edits: { readonly span: Span; readonly by: Buffer }[] = [];
  if (acknowledgement !== undefined) edits.push({ span: acknowledgement, by: Buffer.alloc(0) });
  if (headers !== undefined) {
    edits.push({
      span: headers,
      by: mendedHeaders(bytes.subarray(headers.start, headers.end)),
    });
  }
  const parts: Buffer[] = [];
  let at = 0;
  for (const { span, by } of edits.sort((a, b) => a.span.start - b.span.start)) {
    parts.push(bytes.subarray(at, span.start), by);
    at = span.end;
  }
  return Buffer.concat([...parts, bytes.subarray(at)]);
}

/** The frame with another value in its first `:authority`; as it was, if it has none with a value. */
function mendedHeaders(frame: Buffer): Buffer {
  const flags = frame[4] ?? 0;
  const from =
    FRAME_HEAD_BYTES + ((flags & PADDED) === 0 ? 0 : 1) + ((flags & PRIORITY) === 0 ? 0 : 5);
  const value = findAuthority(frame, from);
  if (value === undefined) return frame;
  const result = Buffer.concat([
    frame.subarray(0, value.start),
    Buffer.of(REPLACEMENT.length),
    REPLACEMENT,
    frame.subarray(value.end),
  ]);
  result.writeUIntBE(result.length - FRAME_HEAD_BYTES, 0, 3);
  return result;
}

/** `:authority` is the first name of the static table. */
const AUTHORITY_INDEX = 1;

/** Where the value of a literal `:authority` is, its length included. */
function findAuthority(block: Buffer, from: number): Span | undefined {
  let at = from;
  while (at < block.length) {
    const first = block[at] ?? 0;
    const isIndexed = (first & 0x80) !== 0;
    const isSizeUpdate = (first & 0xe0) === 0x20;
    const name = readInteger(block, at, isIndexed ? 7 : isSizeUpdate ? 5 : first >= 0x40 ? 6 : 4);
    at = name.end;
    if (isIndexed || isSizeUpdate) continue;
    if (name.value === 0) at = skipText(block, at);
    const end = skipText(block, at);
    if (end > block.length) return undefined;
    if (name.value === AUTHORITY_INDEX) return { start: at, end };
    at = end;
  }
  return undefined;
}

/** An integer with a prefix of so many bits (RFC 7541 section 5.1). */
function readInteger(block: Buffer, at: number, bits: number): { value: number; end: number } {
  const limit = 2 ** bits - 1;
  let value = (block[at] ?? 0) & limit;
  let end = at + 1;
  if (value < limit) return { value, end };
  for (let shift = 1; end < block.length; shift *= 128) {
    const byte = block[end] ?? 0;
    end += 1;
    value += (byte & 0x7f) * shift;
    if ((byte & 0x80) === 0) break;
  }
  return { value, end };
}

function skipText(block: Buffer, at: number): number {
  const { value, end } = readInteger(block, at, 7);
  return end + value;
}
