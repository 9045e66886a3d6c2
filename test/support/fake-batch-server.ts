/** A server of conclave.v1.Batch and plain KV calls whose answers a test decides, message by message. */
import { createServer, type Server, ServerError } from 'nice-grpc';
import { Status } from 'nice-grpc-common';
import { AsyncBuffer } from '../../sdk/async-buffer.ts';
import {
  type Answer,
  type Answers,
  BatchDefinition,
  type Calls,
  Method,
} from '../../server/wire/conclave/v1/batch.ts';
import { KVDefinition, PutResponse, RangeResponse } from '../../server/wire/etcdserverpb/rpc.ts';

export class FakeBatchServer implements AsyncDisposable {
  /** Streams opened. */
  streams = 0;
  /** Messages received on any stream, in order. */
  readonly messages: Calls[] = [];
  /** Plain calls received. */
  plainCalls = 0;
  /** Answer calls as they come. @default true */
  answering = true;
  /** Read one message and no more, so that clients cannot send theirs. @default false */
  deaf = false;
  /** Whether batches are served at all. @default true */
  serving = true;
  /** Why every stream is refused. @default none is */
  refusal: string | undefined;
  #answers = new AsyncBuffer<Answers>();
  #fail: ((error: ServerError) => void) | undefined;
  readonly #server: Server;
  endpoint = '';

  private constructor() {
    this.#server = createServer();
    this.#server.add(BatchDefinition, { exchange: (requests) => this.#exchange(requests) });
    const header = { revision: 7n };
    const unimplemented = () => {
      throw new ServerError(Status.UNIMPLEMENTED, 'not here');
    };
    this.#server.add(KVDefinition, {
      range: async () => {
        this.plainCalls += 1;
        return RangeResponse.fromPartial({ header });
      },
      put: async () => {
        this.plainCalls += 1;
        return PutResponse.fromPartial({ header });
      },
      rangeStream: unimplemented,
      deleteRange: unimplemented,
      txn: unimplemented,
      compact: unimplemented,
    });
  }

  static async start(): Promise<FakeBatchServer> {
    const fake = new FakeBatchServer();
    fake.endpoint = `127.0.0.1:${await fake.#server.listen('127.0.0.1:0')}`;
    return fake;
  }

  get calls(): Calls['calls'] {
    return this.messages.flatMap(({ calls }) => calls);
  }

  answer(...answers: readonly Answer[]): void {
    this.#answers.push({ answers: [...answers] });
  }

  /** Ends the open stream with this status. */
  fail(code: Status, details: string): void {
    this.#fail?.(new ServerError(code, details));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.forceShutdown();
  }

  async *#exchange(requests: AsyncIterable<Calls>): AsyncGenerator<Answers> {
    this.streams += 1;
    if (!this.serving) throw new ServerError(Status.UNIMPLEMENTED, 'unknown service');
    if (this.refusal !== undefined) throw new ServerError(Status.UNAVAILABLE, this.refusal);
    const answers = new AsyncBuffer<Answers>();
    this.#answers = answers;
    let failure: ServerError | undefined;
    this.#fail = (error) => {
      failure = error;
      answers.end();
    };
    void this.#receive(requests).then(
      () => answers.end(),
      () => answers.end(),
    );
    yield* answers;
    if (failure !== undefined) throw failure;
  }

  async #receive(requests: AsyncIterable<Calls>): Promise<void> {
    for await (const message of requests) {
      this.messages.push(message);
      if (this.deaf) await new Promise(() => undefined);
      if (!this.answering) continue;
      const calls = message.calls.filter(({ cancel }) => !cancel);
      if (calls.length > 0) this.answer(...calls.map(({ id, method }) => answerTo(id, method)));
    }
  }
}

const header = { revision: 7n };

export const answerTo = (id: number, method: Method, count = 0n): Answer => ({
  id,
  code: 0,
  error: '',
  response: Buffer.from(
    method === Method.PUT
      ? PutResponse.encode(PutResponse.fromPartial({ header })).finish()
      : RangeResponse.encode(RangeResponse.fromPartial({ header, count })).finish(),
  ),
});
