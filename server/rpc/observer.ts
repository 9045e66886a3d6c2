/** Where the services say what happens, for metrics of whatever kind. */

export type CallType = 'unary' | 'server_stream' | 'bidi_stream';

/** Each call that started ends once. */
export interface CallKind {
  started(): void;
  /** @param code gRPC's */
  ended(code: number): void;
}

export interface RpcObserver {
  /** Called once a method, when the server is built. */
  method(path: string, type: CallType): CallKind;
}

const silent: CallKind = { started() {}, ended() {} };

export const silentObserver: RpcObserver = { method: () => silent };
