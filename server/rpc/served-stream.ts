/**
 * A stream as its handler sees it, whoever carries it: what is used here of grpc-js' server streams,
 * with their manners. `data` and `end` tell of the request, `drain` that more may be written, and
 * `cancelled` that nothing can be sent any more, for whatever reason. To end it with a status that is
 * not OK, the status is emitted as `error`.
 */
import type { EventEmitter } from 'node:events';
import type { CallMetadata } from './metadata.ts';

export interface ServedStream extends EventEmitter {
  readonly metadata: CallMetadata;
  /** `written` is told when the message is on its way. False: more should wait for `drain`. */
  write(message: Buffer, written?: () => void): boolean;
  /** Ends it with success. */
  end(): unknown;
  pause(): unknown;
  resume(): unknown;
  isPaused(): boolean;
}

/** A stream of responses to one request. */
export interface ServedResponses extends EventEmitter {
  readonly metadata: CallMetadata;
  readonly request: Buffer;
  write(message: Buffer, written?: () => void): boolean;
  end(): unknown;
}
