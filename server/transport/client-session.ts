/**
 * One connection to another member, from this side: calls are opened on it, and its end is known as
 * soon as the system knows it. A connection on which nothing comes in is cut: see `tick`.
 */
import type { ClientHttp2Session } from 'node:http2';
import { createConnection, type Socket } from 'node:net';
import { ClientCall, type ClientCallHandlers } from './client-call.ts';
import { parsePeerUrl } from './peer-listener.ts';
import { destroyLater, http2, SESSION_MEMORY_MB, WINDOW_BYTES } from './sessions.ts';
import { SILENT_TICKS, SilenceWatch } from './silence.ts';

export class ClientSession {
  readonly #socket: Socket;
  readonly #session: ClientHttp2Session;
  readonly #silence: SilenceWatch;
  readonly #onEnd: (error: Error) => void;
  readonly #onRoundTrip: (durationMs: number) => void;
  #isPinging = false;
  #isOver = false;

  /** `onEnd` is called once, unless `close` was called before. Throws a `TypeError` for a bad URL. */
  constructor(
    url: string,
    onEnd: (error: Error) => void,
    onRoundTrip: (durationMs: number) => void = () => undefined,
  ) {
    const { host, port } = parsePeerUrl(url);
    this.#onEnd = onEnd;
    this.#onRoundTrip = onRoundTrip;
    this.#socket = createConnection({ host, port, noDelay: true });
    this.#socket.on('error', (error) => this.#end(error));
    this.#socket.on('close', () => this.#end(new Error('the connection was closed')));
    this.#session = http2().connect(url, {
      createConnection: () => this.#socket,
      settings: { initialWindowSize: WINDOW_BYTES, enablePush: false },
      maxSessionMemory: SESSION_MEMORY_MB,
    });
    this.#session.on('error', (error) => this.#end(error));
    this.#session.on('close', () => this.#end(new Error('the connection was closed')));
    this.#session.on('goaway', () =>
      this.#end(new Error('the other member closes the connection')),
    );
    this.#silence = new SilenceWatch(this.#socket, SILENT_TICKS);
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** Opens a call. Its handlers hear of its end even if the connection ends first. */
  call(path: string, headers: Record<string, string>, handlers: ClientCallHandlers): ClientCall {
    return new ClientCall(this.#session, path, headers, handlers);
  }

  /**
   * To be called in every tick: asks for a sign of life, and cuts the connection, or the attempt to
   * connect, when there was none for `SILENT_TICKS`.
   */
  tick(): void {
    if (this.#isOver) return;
    if (this.#silence.isSilent()) {
      this.#end(new Error('the other member was silent for an election timeout'));
      return;
    }
    if (this.#isPinging || this.#session.connecting) return;
    this.#isPinging = this.#session.ping((error, durationMs) => {
      this.#isPinging = false;
      if (error === null) this.#onRoundTrip(durationMs);
    });
  }

  /** Ends everything on it, without a word to the owner. */
  close(): void {
    this.#isOver = true;
    this.#destroy();
  }

  /** Ends everything on it, and says so. */
  abort(reason: string): void {
    this.#end(new Error(reason));
  }

  #end(error: Error): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#destroy();
    this.#onEnd(error);
  }

  #destroy(): void {
    destroyLater(this.#session, this.#socket);
  }
}
