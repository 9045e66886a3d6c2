/** What carries calls between the network and their methods. Messages are bytes to it. */
import type { Socket } from 'node:net';
import type { Message } from '../http2/message.ts';
import type { CallMetadata } from './metadata.ts';
import type { CallContext } from './method.ts';
import type { ServedResponses, ServedStream } from './served-stream.ts';
import type { CallStatus } from './status.ts';

/** A call with one request and one response, to be answered once, in either way. */
export interface ServedCall extends CallContext {
  readonly metadata: CallMetadata;
  readonly request: Buffer;
  respond(message: Message): void;
  fail(status: CallStatus): void;
}

export interface Carrier {
  unary(path: string, serve: (call: ServedCall) => void): void;
  bidi(path: string, serve: (call: ServedStream) => void): void;
  serverStream(path: string, serve: (call: ServedResponses) => void): void;
  /** Takes over a connection that speaks HTTP/2. It may stay silent for `silenceMs` at its beginning. */
  accept(connection: Socket, silenceMs: number): void;
  /** Lets calls finish and closes the connections; what is left after `graceMs` is cut. */
  stop(graceMs: number): Promise<void>;
}

export type CarrierOptions = {
  readonly maxMessageBytes: number;
  readonly maxConcurrentStreams: number;
  readonly keepaliveIntervalMs: number;
  readonly keepaliveTimeoutMs: number;
  /** Told of errors that are nobody's call. */
  readonly onError: (error: unknown) => void;
};
