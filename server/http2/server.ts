/** Serves methods on the connections it is handed. Messages are bytes in and bytes out. */
import type { Socket } from 'node:net';
import { Connection, type ConnectionOptions } from './connection.ts';
import { Deadlines } from './deadlines.ts';
import { Chunks } from './output.ts';
import type { Method } from './streams.ts';

export type GrpcServerOptions = Pick<
  ConnectionOptions,
  | 'maxMessageBytes'
  | 'maxConcurrentStreams'
  | 'keepaliveIntervalMs'
  | 'keepaliveTimeoutMs'
  | 'onError'
>;

export class GrpcServer {
  readonly #methods = new Map<string, Method>();
  readonly #options: GrpcServerOptions;
  readonly #chunks = new Chunks();
  readonly #deadlines = new Deadlines();
  readonly #connections = new Set<Connection>();
  #onEmpty: (() => void) | undefined;
  #isStopping = false;

  constructor(options: GrpcServerOptions) {
    this.#options = options;
  }

  /** `path` as in `:path`. */
  register(path: string, method: Method): void {
    this.#methods.set(path, method);
  }

  /** Takes over a connection whose preface is still to be read. */
  accept(socket: Socket, silenceMs: number): void {
    if (this.#isStopping) {
      socket.destroy();
      return;
    }
    const connection = new Connection(socket, {
      ...this.#options,
      methods: this.#methods,
      deadlines: this.#deadlines,
      chunks: this.#chunks,
      silenceMs,
      onClose: (closed) => {
        this.#connections.delete(closed);
        if (this.#connections.size === 0) this.#onEmpty?.();
      },
    });
    this.#connections.add(connection);
  }

  /** Lets calls finish and closes the connections; what is left after `graceMs` is cut. */
  async stop(graceMs: number): Promise<void> {
    this.#isStopping = true;
    for (const connection of this.#connections) connection.drain();
    const timer = setTimeout(() => {
      for (const connection of this.#connections) connection.destroy();
    }, graceMs);
    if (this.#connections.size > 0) {
      await new Promise<void>((resolve) => {
        this.#onEmpty = resolve;
      });
    }
    clearTimeout(timer);
  }
}
