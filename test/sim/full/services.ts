/** What a member serves to clients: the shipped services, by path, over simulated calls. */
import {
  type ServerDuplexStream,
  type ServerWritableStream,
  status as Status,
} from '@grpc/grpc-js';
import { joined } from '../../../server/http2/message.ts';
import type { LocalMember } from '../../../server/local-member.ts';
import type { PointName } from '../../../server/points.ts';
import type { Random } from '../../../server/ports.ts';
import { checkMetadata } from '../../../server/rpc/metadata.ts';
import type { UnaryMethod } from '../../../server/rpc/method.ts';
import { serveAll } from '../../../server/rpc/registry.ts';
import { statusOf } from '../../../server/rpc/status.ts';
import type { Accept, ServerCall } from './channel.ts';
import type { Life } from './process.ts';
import { silentLogger } from './silent-logger.ts';

export type ServiceOptions = {
  readonly member: LocalMember;
  readonly life: Life;
  readonly random: Random;
  readonly progressIntervalMs: number;
  readonly reached: (point: PointName) => void;
};

const WATCH_PATH = '/etcdserverpb.Watch/Watch';

type Serve = (call: ServerCall) => void;

export class Services {
  readonly #handlers = new Map<string, Serve>();
  readonly #options: ServiceOptions;

  constructor(options: ServiceOptions) {
    this.#options = options;
    const { member, life, random, progressIntervalMs } = options;
    serveAll(
      {
        member,
        random,
        progressIntervalMs,
        clock: life,
        timers: life,
        logger: silentLogger,
        report: () => undefined,
      },
      {
        unary: (method) =>
          this.#handlers.set(method.path, (call) => this.#serveUnary(method, call)),
        // What the handlers use of grpc-js' streams is all there.
        bidi: (path, serve) =>
          this.#handlers.set(path, (call) =>
            serve(call as unknown as ServerDuplexStream<Buffer, Buffer>),
          ),
        serverStream: (path, serve) =>
          this.#handlers.set(path, (call) =>
            serve(call as unknown as ServerWritableStream<Buffer, Buffer>),
          ),
      },
    );
  }

  readonly accept: Accept = (path, call) => {
    const { member, reached } = this.#options;
    call.onWrite = () => reached(path === WATCH_PATH ? 'watch-sent' : 'request-answered');
    try {
      checkMetadata(call.metadata, member);
      const serve = this.#handlers.get(path);
      if (serve === undefined) {
        call.emit('error', { code: Status.UNIMPLEMENTED, details: `${path} is not served` });
      } else serve(call);
    } catch (error) {
      call.emit('error', statusOf(error));
    }
  };

  #serveUnary(method: UnaryMethod, call: ServerCall): void {
    const abort = new AbortController();
    call.on('cancelled', () => abort.abort());
    call.on('data', (request: Buffer) => {
      method.invoke(request, { signal: abort.signal, requestBytes: request.length }).then(
        (message) => {
          const bytes = joined(message);
          call.write(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
          call.end();
        },
        (error: unknown) => call.emit('error', statusOf(error)),
      );
    });
  }
}
