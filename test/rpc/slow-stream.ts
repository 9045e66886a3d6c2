/** A batched stream whose transport sends a message when it is told to, in order. */
import { EventEmitter } from 'node:events';
import type { ServedStream } from '../../server/rpc/served-stream.ts';
import { type Answer, Answers, Calls } from '../../server/wire/conclave/v1/batch.ts';

type CallFields = NonNullable<NonNullable<Parameters<typeof Calls.create>[0]>['calls']>[number];

export class SlowStream extends EventEmitter implements ServedStream {
  readonly metadata = { get: () => [] };
  readonly sent: Answer[][] = [];
  readonly #waiting: { readonly message: Buffer; readonly written: () => void }[] = [];
  readonly #unread: Buffer[] = [];
  #isPaused = false;

  get handedBytes(): number {
    return this.#waiting.reduce((sum, { message }) => sum + message.length, 0);
  }

  write(message: Buffer, written: () => void = () => undefined): boolean {
    this.#waiting.push({ message, written });
    return true;
  }

  /** False when there is nothing to send. */
  sendOne(): boolean {
    const next = this.#waiting.shift();
    if (next === undefined) return false;
    this.sent.push(Answers.decode(next.message).answers);
    next.written();
    return true;
  }

  /** A message of the client, read when the stream is. */
  receive(...calls: CallFields[]): void {
    this.#unread.push(Buffer.from(Calls.encode(Calls.create({ calls })).finish()));
    this.#read();
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    queueMicrotask(() => this.#read());
  }

  isPaused(): boolean {
    return this.#isPaused;
  }

  end = () => undefined;

  #read(): void {
    while (!this.#isPaused) {
      const message = this.#unread.shift();
      if (message === undefined) return;
      this.emit('data', message);
    }
  }
}
