/** A call with one request and one response. */
import { Call, type CallHead, type CallHost } from './call.ts';
import type { Message } from './message.ts';
import { type GrpcStatus, StatusCode } from './status.ts';

/** Answers with `respond` or `fail`, once. */
export type ServeUnary = (call: UnaryCall) => void;

const NOTHING: Buffer = Buffer.alloc(0);

export class UnaryCall extends Call {
  readonly #path: string;
  readonly #serve: ServeUnary;
  #request: Buffer | undefined = undefined;
  #isRunning = false;
  #abort: AbortController | undefined = undefined;

  constructor(host: CallHost, head: CallHead, path: string, serve: ServeUnary) {
    super(host, head);
    this.#path = path;
    this.#serve = serve;
  }

  get request(): Buffer {
    return this.#request ?? NOTHING;
  }

  get requestBytes(): number {
    return this.request.length;
  }

  /** Aborts when the client no longer waits. Made when it is first asked for. */
  get signal(): AbortSignal {
    if (this.#abort === undefined) {
      this.#abort = new AbortController();
      if (this.isOver) this.#abort.abort();
    }
    return this.#abort.signal;
  }

  respond(message: Message): void {
    if (this.#isAwaited()) this.host.sender.respond(this, message);
  }

  fail(status: GrpcStatus): void {
    if (this.#isAwaited()) this.end(status);
  }

  /** The handler has its answer: whether anybody waits for it. */
  #isAwaited(): boolean {
    this.#isRunning = false;
    if (this.isOver) this.host.abandoned(false);
    return !this.isOver && this.status === undefined;
  }

  protected received(message: Buffer): void {
    if (this.#request === undefined) {
      this.#request = message;
      // Until the request ends nobody takes it.
      this.hold(message.length);
    } else this.#refuse('a second request message');
  }

  protected requestEnded(): void {
    if (this.status !== undefined || this.isOver) return;
    if (this.#request === undefined) {
      this.#refuse('no request message');
      return;
    }
    this.hold(-this.#request.length);
    this.#isRunning = true;
    this.#serve(this);
  }

  #refuse(what: string): void {
    this.end({
      code: StatusCode.UNIMPLEMENTED,
      details: `Received ${what} for unary method ${this.#path}`,
    });
  }

  protected get isBehind(): boolean {
    return false;
  }

  drained(): void {
    // One response: nobody waits to send another.
  }

  protected closed(): void {
    if (!this.#isRunning) return;
    this.host.abandoned(true);
    this.#abort?.abort();
  }
}
