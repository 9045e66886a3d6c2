/** What both ends of an HTTP/2 connection between members have in common. */
import { constants, type Http2Session } from 'node:http2';
import type { Socket } from 'node:net';

/** Memory of one HTTP/2 session in megabytes: headers and frames that wait, not our queues. */
export const SESSION_MEMORY_MB = 64;
/** How much may be under way before the receiver has taken some; more would delay heartbeats. */
export const WINDOW_BYTES = 1024 * 1024;

/**
 * Cuts a connection, in a turn of its own. Within a callback of the session Node would write to it
 * while it is being read, and with other codes than this one never return (seen with 20.20).
 */
export function destroyLater(session: Http2Session, socket: Socket): void {
  setImmediate(() => {
    session.destroy(undefined, constants.NGHTTP2_CANCEL);
    socket.destroy();
  });
}
