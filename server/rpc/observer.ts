/** Where the services say what happens, for metrics of whatever kind. */

export type CallType = 'unary' | 'server_stream' | 'bidi_stream';

export interface CallKind {
  /** A call began. The function returned is called once with the gRPC code it ended with. */
  started(): (code: number) => void;
}

export interface RpcObserver {
  /** Called once a method, when the server is built. */
  method(path: string, type: CallType): CallKind;
}

const nothing = () => {};

export const silentObserver: RpcObserver = { method: () => ({ started: () => nothing }) };
