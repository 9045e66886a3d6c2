/** A unary method, served alike as a gRPC call of its own and inside the batched stream. */
import type { ClientCall } from '../clients/call.ts';
import { Fault } from '../faults.ts';
import type { Message } from '../http2/message.ts';
import { BinaryReader } from '../wire/binary.ts';
import type { MemberFacts } from './member.ts';
import { Rejection, UNDECODABLE } from './status.ts';

/** What a handler may know of the call beside its message. */
export interface CallContext {
  /** Aborts when the client no longer waits. Made when it is first asked for. */
  readonly signal: AbortSignal;
  /** Size of the request message. */
  readonly requestBytes: number;
  /** Set on a write that is to take effect once, however often it is sent. */
  readonly client?: ClientCall | undefined;
}

export type UnaryMethod = {
  /** As in the HTTP/2 `:path`. */
  readonly path: string;
  /** Answered when something happens, not when its work is done: it uses nothing until then. */
  readonly waits: boolean;
  /** Whether the answer may be as long as that of a range. False also for what is no such request. */
  answersAtLength(request: Uint8Array): boolean;
  invoke(request: Uint8Array, call: CallContext): Promise<Message>;
};

/** The part of a generated message that is used here. */
export type Decoder<Request> = { decode(bytes: Uint8Array | BinaryReader): Request };
export type Encoder<Response> = { encode(response: Response): { finish(): Message } };

/** Of what the handler has encoded itself. */
export const asEncoded: Encoder<Message> = { encode: (message) => ({ finish: () => message }) };

/** The part of a generated service definition that is used here. */
export type MethodDefinition<Request, Response> = {
  readonly name: string;
  readonly requestType: Decoder<Request>;
  readonly responseType: Encoder<Response>;
};

/** May throw instead of rejecting. */
export type Handler<Request, Response> = (request: Request, call: CallContext) => Promise<Response>;

export type UnaryOptions<Request> = {
  /** Whether a learner, which cannot read consistently, may answer. Default: it may not. */
  readonly onLearner?: (request: Request) => boolean;
  /** See `UnaryMethod`. @default false */
  readonly waits?: boolean;
  /** See `UnaryMethod`. Default: it is not. */
  readonly answersAtLength?: (request: Request) => boolean;
};

/** Makes unary methods of one service. */
export function methodsOf(member: MemberFacts, service: { readonly fullName: string }) {
  return <Request, Response>(
    definition: MethodDefinition<Request, Response>,
    handle: Handler<Request, Response>,
    options: UnaryOptions<Request> = {},
  ): UnaryMethod => {
    const encode = (response: Response): Message =>
      definition.responseType.encode(response).finish();
    const { onLearner, waits = false, answersAtLength } = options;
    return {
      path: `/${service.fullName}/${definition.name}`,
      waits,
      answersAtLength(bytes) {
        if (answersAtLength === undefined) return false;
        try {
          return answersAtLength(decodeViews(definition.requestType, bytes));
        } catch {
          return false;
        }
      },
      // Not an async function, whose frame would be most of what a small call allocates.
      invoke(bytes, call) {
        try {
          // What waits must not hold on to all that arrived with it.
          const request = (waits ? decode : decodeViews)(definition.requestType, bytes);
          // Certainly not applied, which `server stopped` would leave open: clients may repeat it.
          if (member.isStopping) throw new Fault('no-leader');
          if (member.isLearner && onLearner?.(request) !== true) {
            throw new Fault('not-supported-for-learner');
          }
          return handle(request, call).then(encode);
        } catch (error) {
          return Promise.reject(error);
        }
      },
    };
  };
}

/** Keys and values in the message are views on the bytes: for what is not kept once it is answered. */
export const decodeViews = <Request>(codec: Decoder<Request>, bytes: Uint8Array): Request =>
  decode(codec, new BinaryReader(bytes, 'views'));

export function decode<Request>(
  codec: Decoder<Request>,
  bytes: Uint8Array | BinaryReader,
): Request {
  try {
    return codec.decode(bytes);
  } catch {
    throw new Rejection(UNDECODABLE.code, UNDECODABLE.details);
  }
}
