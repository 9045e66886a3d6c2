/**
 * Connections between clients and members: the `Channel` under the shipped gRPC clients, and the calls
 * that the shipped handlers serve. In between is a link of the simulated network: in order, nothing is
 * doubled, and what a broken link swallows breaks the connection a while later.
 */
import { EventEmitter } from 'node:events';
import {
  type Channel,
  connectivityState,
  Metadata,
  status as Status,
  type StatusObject,
} from '@grpc/grpc-js';
import type { Link } from '../network.ts';
import type { Life } from './process.ts';

type ClientCall = ReturnType<Channel['createCall']>;
type Listener = Parameters<ClientCall['start']>[1];

/** How long after losing something both ends notice that the connection is dead. */
const NOTICE_US = 3_000_000;

/** What a member serves: accepts a call that was begun. */
export type Accept = (path: string, call: ServerCall) => void;

/** One end of the connection of a client to a member. */
export class SimChannel {
  readonly #target: string;
  readonly #client: Life;
  readonly #server: Life;
  readonly #accept: Accept;
  readonly #toServer: Link;
  readonly #toClient: Link;
  readonly #calls = new Set<SimCall>();
  readonly #onBreak: (() => void)[] = [];
  #state: connectivityState = connectivityState.READY;
  /** Something got lost on it. */
  #isDead = false;

  constructor(options: {
    readonly target: string;
    readonly client: Life;
    readonly server: Life;
    readonly accept: Accept;
    readonly toServer: Link;
    readonly toClient: Link;
  }) {
    this.#target = options.target;
    this.#client = options.client;
    this.#server = options.server;
    this.#accept = options.accept;
    this.#toServer = options.toServer;
    this.#toClient = options.toClient;
    this.#server.atEnd(() => this.#client.process.engine.after(0, () => this.breakSoon()));
    this.#client.atEnd(() => this.close());
  }

  /** As grpc-js' clients take it: its type is that of its only class, private parts and all. */
  get asChannel(): Channel {
    return this as unknown as Channel;
  }

  get isOpen(): boolean {
    return this.#state === connectivityState.READY;
  }

  getTarget(): string {
    return this.#target;
  }

  getConnectivityState(): connectivityState {
    return this.#state;
  }

  watchConnectivityState(
    _current: connectivityState,
    _deadline: Date | number,
    callback: (error?: Error) => void,
  ): void {
    this.#onBreak.push(callback);
  }

  getChannelzRef(): never {
    throw new Error('a simulated channel has no channelz');
  }

  createCall(path: string): ClientCall {
    const call = new SimCall(this, path);
    this.#calls.add(call);
    return call;
  }

  forget(call: SimCall): void {
    this.#calls.delete(call);
  }

  /** To the server, in order. */
  send(deliver: () => void): void {
    this.#carry(this.#toServer, this.#server, deliver);
  }

  /** To the client, in order. */
  answer(deliver: () => void): void {
    this.#carry(this.#toClient, this.#client, deliver);
  }

  serve(path: string, call: ServerCall): void {
    this.#accept(path, call);
  }

  /** After a loss nothing comes any more, until both ends notice. */
  #carry(link: Link, receiver: Life, deliver: () => void): void {
    if (!this.isOpen || this.#isDead) return;
    link.carryReliably(
      () => {
        if (this.isOpen && !this.#isDead) receiver.run(deliver);
      },
      () => {
        if (this.#isDead) return;
        this.#isDead = true;
        this.#client.process.engine.after(NOTICE_US, () => this.breakNow());
      },
    );
  }

  /** The peer is gone: the news travels, unless the link is down. */
  breakSoon(): void {
    const notice = () => this.breakNow();
    this.#toClient.carryReliably(notice, () =>
      this.#client.process.engine.after(NOTICE_US, notice),
    );
  }

  breakNow(): void {
    this.#end('the connection was reset');
  }

  close(): void {
    this.#end('Channel has been shut down');
  }

  #end(reason: string): void {
    if (!this.isOpen) return;
    this.#state = connectivityState.SHUTDOWN;
    const calls = [...this.#calls];
    this.#calls.clear();
    this.#client.run(() => {
      for (const call of calls) call.finish(Status.UNAVAILABLE, reason);
      for (const each of this.#onBreak.splice(0)) each();
    });
    for (const call of calls) this.#server.run(() => call.server.cancel());
  }
}

/** One call as grpc-js sees it on the client. */
class SimCall implements ClientCall {
  readonly server: ServerCall;
  readonly #channel: SimChannel;
  readonly #path: string;
  #listener: Listener | undefined;
  readonly #received: Buffer[] = [];
  #reads = 0;
  #status: StatusObject | undefined;
  #isFinished = false;

  constructor(channel: SimChannel, path: string) {
    this.#channel = channel;
    this.#path = path;
    this.server = new ServerCall(
      (message) => channel.answer(() => this.#receive(message)),
      (code, details) => channel.answer(() => this.finish(code, details)),
    );
  }

  start(metadata: Metadata, listener: Listener): void {
    this.#listener = listener;
    this.#channel.send(() => {
      this.server.begin(metadata);
      this.#channel.serve(this.#path, this.server);
    });
    if (!this.#channel.isOpen) {
      queueMicrotask(() => this.finish(Status.UNAVAILABLE, 'Channel has been shut down'));
    }
  }

  sendMessageWithContext(context: { readonly callback?: () => void }, message: Buffer): void {
    this.#channel.send(() => this.server.receive(message));
    const { callback } = context;
    if (callback !== undefined) queueMicrotask(callback);
  }

  startRead(): void {
    this.#reads += 1;
    this.#deliver();
  }

  halfClose(): void {
    this.#channel.send(() => this.server.halfClose());
  }

  cancelWithStatus(code: Status, details: string): void {
    this.#channel.send(() => this.server.cancel());
    queueMicrotask(() => this.finish(code, details));
  }

  getPeer(): string {
    return this.#channel.getTarget();
  }

  getCallNumber(): number {
    return 0;
  }

  setCredentials(): void {
    // Nothing is encrypted here.
  }

  getAuthContext(): null {
    return null;
  }

  finish(code: Status, details: string): void {
    if (this.#status !== undefined) return;
    this.#status = { code, details, metadata: new Metadata() };
    this.#channel.forget(this);
    this.#deliver();
  }

  #receive(message: Buffer): void {
    if (this.#status !== undefined) return;
    this.#received.push(message);
    this.#deliver();
  }

  /** Messages as they are asked for, then the status. */
  #deliver(): void {
    while (this.#reads > 0) {
      const message = this.#received.shift();
      if (message === undefined) break;
      this.#reads -= 1;
      this.#listener?.onReceiveMessage(message);
    }
    if (this.#status === undefined || this.#isFinished) return;
    // A status that is no success does not wait for messages to be read.
    if (this.#received.length > 0 && this.#status.code === Status.OK) return;
    this.#isFinished = true;
    this.#listener?.onReceiveStatus(this.#status);
  }
}

/** One call as the shipped handlers see it: what they use of grpc-js' `ServerDuplexStream`. */
export class ServerCall extends EventEmitter {
  metadata = new Metadata();
  cancelled = false;
  /** Told of every message that leaves. */
  onWrite: () => void = () => undefined;
  readonly #answer: (message: Buffer) => void;
  readonly #end: (code: Status, details: string) => void;
  readonly #waiting: Buffer[] = [];
  #isPaused = false;
  #isHalfClosed = false;
  #isEnded = false;

  constructor(answer: (message: Buffer) => void, end: (code: Status, details: string) => void) {
    super();
    this.#answer = answer;
    this.#end = end;
    this.on('error', (error: { readonly code?: Status; readonly details?: string }) =>
      this.#finish(error.code ?? Status.UNKNOWN, error.details ?? ''),
    );
  }

  begin(metadata: Metadata): void {
    this.metadata = metadata;
  }

  receive(message: Buffer): void {
    if (this.cancelled || this.#isEnded) return;
    if (this.#isPaused) this.#waiting.push(message);
    else this.emit('data', message);
  }

  halfClose(): void {
    if (this.cancelled || this.#isEnded) return;
    this.#isHalfClosed = true;
    if (!this.#isPaused) this.emit('end');
  }

  cancel(): void {
    if (this.cancelled || this.#isEnded) return;
    this.cancelled = true;
    this.emit('cancelled', 'cancelled');
  }

  write(message: Buffer, written?: () => void): boolean {
    if (!this.cancelled && !this.#isEnded) {
      this.onWrite();
      this.#answer(message);
    }
    if (written !== undefined) queueMicrotask(written);
    return true;
  }

  end(): void {
    this.#finish(Status.OK, '');
  }

  isPaused(): boolean {
    return this.#isPaused;
  }

  pause(): this {
    this.#isPaused = true;
    return this;
  }

  resume(): this {
    this.#isPaused = false;
    while (!this.#isPaused) {
      const message = this.#waiting.shift();
      if (message === undefined) break;
      this.emit('data', message);
    }
    if (this.#isHalfClosed && !this.#isPaused) this.emit('end');
    return this;
  }

  #finish(code: Status, details: string): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#end(code, details);
  }
}
