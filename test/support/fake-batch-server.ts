/** A server of conclave.v1.Batch and plain KV calls whose answers a test decides, message by message. */
import { createServer, type Server, ServerError } from 'nice-grpc';
import { type Metadata, Status } from 'nice-grpc-common';
import { AsyncBuffer } from '../../sdk/async-buffer.ts';
import {
  type Answer,
  type Answers,
  BatchDefinition,
  type Calls,
  ClientForgetRequest,
  ClientRegisterResponse,
  Method,
} from '../../server/wire/conclave/v1/batch.ts';
import {
  KVDefinition,
  PutRequest,
  PutResponse,
  RangeResponse,
} from '../../server/wire/etcdserverpb/rpc.ts';

export class FakeBatchServer implements AsyncDisposable {
  /** Streams opened. */
  streams = 0;
  /** Of those, the ones whose client puts parts of answers together. */
  streamsTakingParts = 0;
  /** Messages received on any stream, in order. */
  readonly messages: Calls[] = [];
  /** Plain calls received. */
  plainCalls = 0;
  /** Answer calls as they come; registrations and pings are answered in any case. @default true */
  answering = true;
  /** Answer nothing at all, as a process that is stopped. @default false */
  silent = false;
  /** Of numbers per client, as told to those who register; 0: nothing is told. */
  window = 0;
  /** Read one message of a stream and no more, so that clients cannot send theirs. @default false */
  deaf = false;
  /** Whether clients are registered, their numbered writes done once, and pings answered. @default false */
  numbering = false;
  /** Clients registered so far; the ids of those that are known. */
  registrations = 0;
  readonly clients = new Set<bigint>();
  /** Clients that said goodbye. */
  readonly forgotten: bigint[] = [];
  pings = 0;
  /** Writes applied, by what they write: a repetition under the same number is not. */
  readonly applied: string[] = [];
  /** Whether batches are served at all. @default true */
  serving = true;
  /** Why every stream is refused. @default none is */
  refusal: string | undefined;
  #answers = new AsyncBuffer<Answers>();
  /** First answers, by client and sequence; other members may share them. */
  #results = new Map<string, Answer>();
  #fail: ((error: ServerError) => void) | undefined;
  readonly #server: Server;
  endpoint = '';

  private constructor() {
    this.#server = createServer();
    this.#server.add(BatchDefinition, {
      exchange: (requests, { metadata }) => this.#exchange(requests, metadata),
    });
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

  /** Another member of the same cluster: what one applied the other knows. */
  shareStateWith(other: FakeBatchServer): void {
    this.#results = other.#results;
  }

  get calls(): Calls['calls'] {
    return this.messages.flatMap(({ calls }) => calls);
  }

  /** On the stream that was heard last. */
  answer(...answers: readonly Answer[]): void {
    this.#answers.push({ answers: [...answers] });
  }

  /** The way to answer, later, on the stream that was heard last until now. */
  answerLater(): (...answers: readonly Answer[]) => void {
    const stream = this.#answers;
    return (...answers) => stream.push({ answers: [...answers] });
  }

  /** Ends the stream that was heard last with this status. */
  fail(code: Status, details: string): void {
    this.failLater()(code, details);
  }

  /** The way to end, later, the stream that was heard last until now. */
  failLater(): (code: Status, details: string) => void {
    const fail = this.#fail;
    return (code, details) => fail?.(new ServerError(code, details));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.forceShutdown();
  }

  async *#exchange(requests: AsyncIterable<Calls>, metadata: Metadata): AsyncGenerator<Answers> {
    this.streams += 1;
    if (metadata.get('conclave-parts') === 'true') this.streamsTakingParts += 1;
    if (!this.serving) throw new ServerError(Status.UNIMPLEMENTED, 'unknown service');
    if (this.refusal !== undefined) throw new ServerError(Status.UNAVAILABLE, this.refusal);
    const answers = new AsyncBuffer<Answers>();
    this.#answers = answers;
    let failure: ServerError | undefined;
    const heard = () => {
      this.#answers = answers;
      this.#fail = (error) => {
        failure = error;
        answers.end();
      };
    };
    heard();
    void this.#receive(requests, heard).then(
      () => answers.end(),
      () => answers.end(),
    );
    yield* answers;
    if (failure !== undefined) throw failure;
  }

  async #receive(requests: AsyncIterable<Calls>, heard: () => void): Promise<void> {
    for await (const message of requests) {
      heard();
      const service = message.calls.filter(({ method }) => serviceMethods.has(method));
      const calls = message.calls.filter(({ method }) => !serviceMethods.has(method));
      if (calls.length > 0) this.messages.push({ ...message, calls });
      if (this.deaf && calls.length > 0) await new Promise(() => undefined);
      const answers = service.map(({ id, method, request }) => this.#serve(id, method, request));
      for (const call of calls) {
        if (call.cancel) continue;
        const answer = this.#apply(call);
        if (this.answering) answers.push(answer);
      }
      if (answers.length > 0 && !this.silent) this.answer(...answers);
    }
  }

  #serve(id: number, method: Method, request: Buffer): Answer {
    if (!this.numbering) return failure(id, Status.UNIMPLEMENTED, `method ${method} is not served`);
    let response: Uint8Array = new Uint8Array();
    if (method === Method.PING) this.pings += 1;
    if (method === Method.CLIENT_REGISTER) {
      this.registrations += 1;
      const clientId = 1_000n + BigInt(this.registrations);
      this.clients.add(clientId);
      const message = { clientId, ttlSeconds: 900, window: this.window };
      response = ClientRegisterResponse.encode(message).finish();
    }
    if (method === Method.CLIENT_FORGET) {
      const { clientId } = ClientForgetRequest.decode(request);
      this.clients.delete(clientId);
      this.forgotten.push(clientId);
    }
    return { id, code: 0, error: '', more: false, response: Buffer.from(response) };
  }

  /** Does a write, unless it was done under its number before. */
  #apply({ id, method, request, clientId, sequence }: Calls['calls'][number]): Answer {
    const text = method === Method.PUT ? PutRequest.decode(request).key.toString() : '';
    if (clientId === 0n) {
      if (method === Method.PUT) this.applied.push(text);
      return answerTo(id, method);
    }
    if (!this.clients.has(clientId)) {
      return failure(id, Status.FAILED_PRECONDITION, 'conclave: unknown client');
    }
    const name = `${clientId}/${sequence}`;
    const before = this.#results.get(name);
    if (before !== undefined) return { ...before, id };
    this.applied.push(text);
    const answer = answerTo(id, method, 0n, 7n + BigInt(this.applied.length));
    this.#results.set(name, answer);
    return answer;
  }
}

const header = { revision: 7n };

const serviceMethods: ReadonlySet<Method> = new Set([
  Method.CLIENT_REGISTER,
  Method.CLIENT_FORGET,
  Method.PING,
]);

const failure = (id: number, code: number, error: string): Answer => ({
  id,
  code,
  error,
  more: false,
  response: Buffer.alloc(0),
});

export const answerTo = (id: number, method: Method, count = 0n, revision = 7n): Answer => ({
  id,
  code: 0,
  error: '',
  more: false,
  response: Buffer.from(
    method === Method.PUT
      ? PutResponse.encode(PutResponse.fromPartial({ header: { revision } })).finish()
      : RangeResponse.encode(RangeResponse.fromPartial({ header, count })).finish(),
  ),
});
