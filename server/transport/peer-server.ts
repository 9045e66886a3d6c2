/**
 * The server's end of connections between members: takes sockets, lets in whom the gate admits, and
 * hands calls to their methods. A connection that is cut, or falls silent, is reported at once.
 */
import type { ServerHttp2Session } from 'node:http2';
import type { Socket } from 'node:net';
import type { Logger } from 'pino';
import { Status } from '../faults.ts';
import { idToHex } from '../ids.ts';
import type { Refusal } from './gatekeeper.ts';
import { CallError } from './grpc.ts';
import { HelloError, helloHeaders, parseHello } from './hello.ts';
import { ServerCall, type ServerCallOptions } from './server-call.ts';
import { destroyLater, http2, SESSION_MEMORY_MB, WINDOW_BYTES } from './sessions.ts';
import { SILENT_TICKS, SilenceWatch } from './silence.ts';
import type { Hello } from './transport.ts';

/** Streams of one connection: two for messages, and questions. */
const MAX_STREAMS = 4_096;
const MAX_HEADER_BYTES = 16 * 1024;
/** Connections whose member is not known yet. */
const MAX_STRANGERS = 128;
/** Of all streams of a connection together. Receivers that wait must not hold up heartbeats. */
const CONNECTION_WINDOW_BYTES = 4 * WINDOW_BYTES;
const KEEPALIVE_MS = 10_000;
const WARNING_INTERVAL_MS = 60_000;
/** For a refusal to arrive before its connection is cut. */
const REFUSAL_MS = 1_000;

/** A method for members. */
export type PeerMethod = (call: ServerCall, hello: Hello, connection: PeerConnection) => void;
/** A method for anyone who asks. */
export type OpenMethod = (call: ServerCall) => void;

export type PeerServerOptions = ServerCallOptions & {
  readonly logger: Logger;
  /** By path. */
  readonly methods: ReadonlyMap<string, PeerMethod>;
  readonly openMethods: ReadonlyMap<string, OpenMethod>;
  readonly refusal: (hello: Hello) => Refusal | undefined;
  /** Resolves when messages of that member may be believed. */
  readonly trust: (hello: Hello) => Promise<void>;
  /** How this member introduces itself to that one. */
  readonly introduce: (to: bigint) => Hello;
  readonly closed: (connection: PeerConnection) => void;
};

export class PeerServer {
  readonly #options: PeerServerOptions;
  readonly #connections = new Set<PeerConnection>();
  readonly #warnedAtMs = new Map<string, number>();

  constructor(options: PeerServerOptions) {
    this.#options = options;
  }

  get connections(): ReadonlySet<PeerConnection> {
    return this.#connections;
  }

  accept(socket: Socket): void {
    const strangers = [...this.#connections].filter(({ hello }) => hello === undefined);
    if (socket.destroyed || strangers.length >= MAX_STRANGERS) {
      socket.destroy();
      return;
    }
    const connection = new PeerConnection(socket, this.#options, {
      closed: () => {
        if (this.#connections.delete(connection)) this.#options.closed(connection);
      },
      refused: (hello, refusal) => this.#warn(hello, refusal, socket),
    });
    this.#connections.add(connection);
  }

  tick(): void {
    for (const connection of this.#connections) connection.tick();
  }

  /** Who is refused tries again at once; that is said once in a while. */
  #warn(hello: Hello, refusal: Refusal, socket: Socket): void {
    const { logger, nowMs } = this.#options;
    const key = `${refusal.code} ${idToHex(hello.from)}`;
    const lastMs = this.#warnedAtMs.get(key);
    if (lastMs !== undefined && nowMs() - lastMs < WARNING_INTERVAL_MS) return;
    if (this.#warnedAtMs.size >= MAX_STRANGERS) this.#warnedAtMs.clear();
    this.#warnedAtMs.set(key, nowMs());
    const { code, sentence } = refusal;
    const peer = idToHex(hello.from);
    logger.warn({ peer, address: socket.remoteAddress, code }, `refused a connection: ${sentence}`);
  }

  close(): void {
    for (const connection of this.#connections) connection.destroy();
  }
}

type ConnectionOwner = {
  readonly closed: () => void;
  readonly refused: (hello: Hello, refusal: Refusal) => void;
};

export class PeerConnection {
  /** Who is at the other end, once it was let in. */
  hello: Hello | undefined;
  /** Carries messages: while it stands, the member is there. */
  hasMessages = false;
  readonly #options: PeerServerOptions;
  readonly #socket: Socket;
  readonly #session: ServerHttp2Session;
  readonly #silence: SilenceWatch;
  readonly #calls = new Set<ServerCall>();
  readonly #owner: ConnectionOwner;
  #isOver = false;

  constructor(socket: Socket, options: PeerServerOptions, owner: ConnectionOwner) {
    this.#options = options;
    this.#socket = socket;
    this.#owner = owner;
    this.#silence = new SilenceWatch(socket, SILENT_TICKS);
    socket.setKeepAlive(true, KEEPALIVE_MS);
    socket.on('error', () => this.destroy());
    socket.on('close', () => this.destroy());
    this.#session = http2().performServerHandshake(socket, {
      settings: {
        initialWindowSize: WINDOW_BYTES,
        maxConcurrentStreams: MAX_STREAMS,
        maxHeaderListSize: MAX_HEADER_BYTES,
      },
      maxSessionMemory: SESSION_MEMORY_MB,
    });
    this.#session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
    this.#session.on('error', () => this.destroy());
    this.#session.on('close', () => this.destroy());
    this.#session.on('stream', (stream, headers) => {
      const call = new ServerCall(stream, headers, options);
      this.#calls.add(call);
      call.signal.addEventListener('abort', () => this.#calls.delete(call));
      this.#serve(call);
    });
  }

  tick(): void {
    if (this.#silence.isSilent()) this.destroy();
  }

  /** Ends all calls with that sentence, then the connection. */
  refuse(refusal: Refusal): void {
    this.hasMessages = false;
    for (const call of this.#calls) {
      call.end(Status.FAILED_PRECONDITION, refusal.sentence, refusal.code);
    }
    this.#options.timers.after(REFUSAL_MS, () => this.destroy());
  }

  destroy(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    destroyLater(this.#session, this.#socket);
    this.#owner.closed();
  }

  #serve(call: ServerCall): void {
    const { methods, openMethods } = this.#options;
    const open = openMethods.get(call.path);
    const method = methods.get(call.path);
    if (open !== undefined) {
      try {
        open(call);
      } catch (error) {
        call.fail(error);
      }
    } else if (method !== undefined) {
      this.#admit(call).then(
        (hello) => {
          if (hello === undefined || call.signal.aborted) return;
          call.accept(helloHeaders(this.#options.introduce(hello.from)));
          method(call, hello, this);
        },
        (error: unknown) => {
          this.#options.logger.error({ err: error, path: call.path }, 'cannot admit a member');
          call.fail(error);
        },
      );
    } else call.end(Status.UNIMPLEMENTED, `${call.path} is not served on a peer URL`);
  }

  /** The caller, or undefined when it was refused. */
  async #admit(call: ServerCall): Promise<Hello | undefined> {
    let hello: Hello;
    try {
      hello = parseHello(call.headers);
    } catch (error) {
      if (!(error instanceof HelloError)) throw error;
      call.fail(new CallError(Status.INVALID_ARGUMENT, error.message, error.code));
      return undefined;
    }
    if (this.hello !== undefined && this.hello.session !== hello.session) {
      call.end(Status.INVALID_ARGUMENT, 'this connection belongs to another member');
      return undefined;
    }
    let refusal = this.#options.refusal(hello);
    if (refusal === undefined) {
      await this.#options.trust(hello);
      // Another one of that name may have come in meanwhile.
      refusal = this.#options.refusal(hello);
    }
    if (refusal !== undefined) {
      this.#owner.refused(hello, refusal);
      call.end(Status.FAILED_PRECONDITION, refusal.sentence, refusal.code);
      return undefined;
    }
    this.hello = hello;
    return hello;
  }
}
