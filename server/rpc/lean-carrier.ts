/** The own HTTP/2 server as carrier. */
import type { Socket } from 'node:net';
import { GrpcServer } from '../http2/server.ts';
import type { Carrier, CarrierOptions, ServedCall } from './carrier.ts';
import type { ServedResponses, ServedStream } from './served-stream.ts';

export class LeanCarrier implements Carrier {
  readonly #server: GrpcServer;

  constructor(options: CarrierOptions) {
    this.#server = new GrpcServer(options);
  }

  unary(path: string, serve: (call: ServedCall) => void): void {
    this.#server.register(path, { kind: 'unary', serve });
  }

  bidi(path: string, serve: (call: ServedStream) => void): void {
    this.#server.register(path, { kind: 'bidi', serve });
  }

  serverStream(path: string, serve: (call: ServedResponses) => void): void {
    this.#server.register(path, { kind: 'server-stream', serve });
  }

  accept(connection: Socket, silenceMs: number): void {
    this.#server.accept(connection, silenceMs);
  }

  stop(graceMs: number): Promise<void> {
    return this.#server.stop(graceMs);
  }
}
