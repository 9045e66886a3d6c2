/** A server with a method of each kind, on a free port. */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { GrpcServer, type GrpcServerOptions } from '../../server/http2/server.ts';
import type { MessageStream } from '../../server/http2/streaming-call.ts';
import type { UnaryCall } from '../../server/http2/unary-call.ts';

export const ECHO = '/test.Test/Echo';
/** Echo in pieces. */
export const SPLIT = '/test.Test/Split';
export const HANG = '/test.Test/Hang';
export const REFUSE = '/test.Test/Refuse';
export const PIPE = '/test.Test/Pipe';
export const DOWN = '/test.Test/Down';
export const HOLD = '/test.Test/Hold';

export type RigOptions = Partial<GrpcServerOptions> & { readonly silenceMs?: number };

export class Rig implements AsyncDisposable {
  readonly server: GrpcServer;
  readonly errors: unknown[] = [];
  /** Calls that wait for the test. */
  readonly hanging: UnaryCall[] = [];
  /** Streams whose requests nobody reads, or that the test answers. */
  readonly held: MessageStream[] = [];
  readonly sockets: Socket[] = [];
  readonly #listener: Server;

  private constructor(options: RigOptions) {
    this.server = new GrpcServer({
      maxMessageBytes: 4 * 1024 * 1024,
      maxConcurrentStreams: 10_000,
      keepaliveIntervalMs: 3_600_000,
      keepaliveTimeoutMs: 20_000,
      onError: (error) => this.errors.push(error),
      ...options,
    });
    const { server } = this;
    server.register(ECHO, {
      kind: 'unary',
      serve: (call) => queueMicrotask(() => call.respond(call.request)),
    });
    server.register(SPLIT, {
      kind: 'unary',
      serve: (call) => {
        const { request } = call;
        const middle = Math.floor(request.length / 3);
        const parts = [request.subarray(0, middle), Buffer.alloc(0), request.subarray(middle)];
        queueMicrotask(() => call.respond(parts));
      },
    });
    server.register(HANG, { kind: 'unary', serve: (call) => this.hanging.push(call) });
    server.register(REFUSE, {
      kind: 'unary',
      serve: (call) => call.fail({ code: 9, details: 'not now: 100 % «sure»\n' }),
    });
    server.register(PIPE, {
      kind: 'bidi',
      serve: (stream) => {
        stream.on('data', (bytes: Buffer) => {
          if (!stream.write(bytes)) {
            stream.pause();
            stream.once('drain', () => stream.resume());
          }
        });
        stream.on('end', () => stream.end());
      },
    });
    // As many messages as the first four bytes of the request say, of as many bytes as the next four.
    server.register(DOWN, {
      kind: 'server-stream',
      serve: (stream) => {
        let left = stream.request.readUInt32BE(0);
        const payload = Buffer.alloc(stream.request.readUInt32BE(4), 'd');
        const go = () => {
          while (left > 0) {
            left -= 1;
            if (!stream.write(payload)) return void stream.once('drain', go);
          }
          stream.end();
        };
        go();
      },
    });
    server.register(HOLD, {
      kind: 'bidi',
      serve: (stream) => {
        stream.pause();
        this.held.push(stream);
      },
    });
    this.#listener = createServer({ noDelay: true }, (socket) => {
      this.sockets.push(socket);
      server.accept(socket, options.silenceMs ?? 10_000);
    });
  }

  static async open(options: RigOptions = {}): Promise<Rig> {
    const rig = new Rig(options);
    rig.#listener.listen(0, '127.0.0.1');
    await once(rig.#listener, 'listening');
    return rig;
  }

  get port(): number {
    return (this.#listener.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  async stop(graceMs = 0): Promise<void> {
    this.#listener.close();
    await this.server.stop(graceMs);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
