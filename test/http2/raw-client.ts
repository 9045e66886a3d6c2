/** Frames on a socket, as a client that may do anything. It understands what comes back by itself. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { HpackDecoder } from '../../server/http2/hpack-decoder.ts';

export const Type = {
  DATA: 0,
  HEADERS: 1,
  PRIORITY: 2,
  RST_STREAM: 3,
  SETTINGS: 4,
  PUSH_PROMISE: 5,
  PING: 6,
  GOAWAY: 7,
  WINDOW_UPDATE: 8,
  CONTINUATION: 9,
} as const;

export const CODE = {
  NO_ERROR: 0,
  PROTOCOL_ERROR: 1,
  FLOW_CONTROL_ERROR: 3,
  STREAM_CLOSED: 5,
  FRAME_SIZE_ERROR: 6,
  REFUSED_STREAM: 7,
  COMPRESSION_ERROR: 9,
  ENHANCE_YOUR_CALM: 11,
} as const;

export const END_STREAM = 1;
export const ACK = 1;
export const END_HEADERS = 4;
export const PADDED = 8;

export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');

export type Frame = {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
  /** Of HEADERS. */
  readonly fields: Readonly<Record<string, string>>;
};

export function frame(type: number, flags: number, stream: number, payload: Uint8Array): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

export const uint32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

export const setting = (id: number, value: number): Buffer =>
  Buffer.concat([Buffer.of(id >> 8, id & 255), uint32(value)]);

/** Literals without indexing, no Huffman code. */
export const block = (fields: readonly (readonly [string, string])[]): Buffer =>
  Buffer.concat(
    fields.flatMap(([name, value]) => [
      Buffer.of(0, name.length),
      Buffer.from(name, 'latin1'),
      length(value.length),
      Buffer.from(value, 'latin1'),
    ]),
  );

/** An integer behind a zero bit. */
function length(value: number): Buffer {
  if (value < 127) return Buffer.of(value);
  const bytes = [127];
  let rest = value - 127;
  for (; rest >= 128; rest >>>= 7) bytes.push((rest & 127) | 128);
  return Buffer.from([...bytes, rest]);
}

export const callFields = (
  path: string,
  more: readonly (readonly [string, string])[] = [],
): (readonly [string, string])[] => [
  [':method', 'POST'],
  [':scheme', 'http'],
  [':path', path],
  [':authority', 'http://not-an-authority'],
  ['content-type', 'application/grpc'],
  ['te', 'trailers'],
  ...more,
];

/** HEADERS that begin a call. */
export const begin = (stream: number, path: string, flags: number = END_HEADERS): Buffer =>
  frame(Type.HEADERS, flags, stream, block(callFields(path)));

export const NOTHING: Buffer = Buffer.alloc(0);

export const message = (bytes: Uint8Array, isCompressed = false): Buffer =>
  Buffer.concat([Buffer.of(isCompressed ? 1 : 0), uint32(bytes.length), bytes]);

export class RawClient implements Disposable {
  readonly socket: Socket;
  readonly frames: Frame[] = [];
  isClosed = false;
  readonly #decoder = new HpackDecoder();
  #rest: Buffer = Buffer.alloc(0);
  #waiting: (() => void)[] = [];

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => this.#read(chunk));
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.isClosed = true;
      this.#wake();
    });
  }

  static async connect(port: number): Promise<RawClient> {
    const socket = connect(port, '127.0.0.1');
    await once(socket, 'connect');
    socket.setNoDelay(true);
    return new RawClient(socket);
  }

  /** With the preface, and settings if there are any. */
  static async open(port: number, settings: Uint8Array = Buffer.alloc(0)): Promise<RawClient> {
    const client = await RawClient.connect(port);
    client.send(PREFACE, frame(Type.SETTINGS, 0, 0, settings));
    return client;
  }

  send(...parts: readonly Uint8Array[]): void {
    if (!this.isClosed) this.socket.write(Buffer.concat(parts));
  }

  call(stream: number, path: string, request: Uint8Array): void {
    this.send(
      frame(Type.HEADERS, END_HEADERS, stream, block(callFields(path))),
      frame(Type.DATA, END_STREAM, stream, message(request)),
    );
  }

  /** Resolves once `find` finds something in all that has come; rejects when the connection closes. */
  async until<Found>(find: (frames: readonly Frame[]) => Found | undefined): Promise<Found> {
    for (;;) {
      const found = find(this.frames);
      if (found !== undefined) return found;
      if (this.isClosed) throw new Error('the connection was closed before that');
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  async closed(): Promise<void> {
    while (!this.isClosed) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  /** The code of the last GOAWAY, once the connection is closed. */
  async goAwayCode(): Promise<number | undefined> {
    await this.closed();
    return this.frames.findLast(({ type }) => type === Type.GOAWAY)?.payload.readUInt32BE(4);
  }

  of(stream: number, type?: number): Frame[] {
    return this.frames.filter(
      (each) => each.stream === stream && (type === undefined || each.type === type),
    );
  }

  /** The body that has come on a stream. */
  body(stream: number): Buffer {
    return Buffer.concat(this.of(stream, Type.DATA).map(({ payload }) => payload));
  }

  /** The status and the message of a call, once it is over. */
  async answer(stream: number): Promise<{ status: string | undefined; body: Buffer }> {
    const last = await this.until((frames) =>
      frames.find(
        (each) =>
          each.stream === stream && (each.flags & END_STREAM) !== 0 && each.type <= Type.HEADERS,
      ),
    );
    return { status: last.fields['grpc-status'], body: this.body(stream) };
  }

  /** The code with which the server has reset a stream. */
  async resetCode(stream: number): Promise<number> {
    return this.until((frames) =>
      frames
        .find((each) => each.stream === stream && each.type === Type.RST_STREAM)
        ?.payload.readUInt32BE(0),
    );
  }

  /** Everything that was sent before has been looked at. */
  async settled(): Promise<void> {
    const payload = Buffer.from(String(this.frames.length).padStart(8, 'p'));
    this.send(frame(Type.PING, 0, 0, payload));
    await this.until((frames) =>
      frames.find((each) => each.type === Type.PING && each.payload.equals(payload)),
    );
  }

  #read(chunk: Buffer): void {
    let bytes = Buffer.concat([this.#rest, chunk]);
    while (bytes.length >= 9 && bytes.length >= 9 + bytes.readUIntBE(0, 3)) {
      const end = 9 + bytes.readUIntBE(0, 3);
      const payload = Buffer.from(bytes.subarray(9, end));
      const type = bytes[3] ?? 0;
      const fields: Record<string, string> = {};
      if (type === Type.HEADERS) {
        this.#decoder.decode(payload, 0, payload.length, {
          field: ({ name, value }) => {
            fields[name] = value;
          },
        });
      }
      const stream = bytes.readUInt32BE(5);
      this.frames.push({ type, flags: bytes[4] ?? 0, stream, payload, fields });
      bytes = bytes.subarray(end);
    }
    this.#rest = bytes;
    this.#wake();
  }

  #wake(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}
