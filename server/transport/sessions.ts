/** What both ends of an HTTP/2 connection between members have in common. */
import type { Http2Session } from 'node:http2';
import type { Socket } from 'node:net';

/** Memory of one HTTP/2 session in megabytes: headers and frames that wait, not our queues. */
export const SESSION_MEMORY_MB = 64;
/** How much may be under way before the receiver has taken some; more would delay heartbeats. */
export const WINDOW_BYTES = 1024 * 1024;

/** Loaded when the first member connects: a store on its own starts without it. */
export const http2 = () => process.getBuiltinModule('node:http2');

/**
 * Cuts a connection, in a turn of its own: closing a session within one of its callbacks makes Node
 * write while it reads, which nghttp2 cannot bear. Seen with Node 20.20: endless loops, and a heap
 * destroyed. Promises that such a callback settles go on within it too.
 */
export function destroyLater(session: Http2Session, socket: Socket): void {
  setImmediate(() => {
    session.destroy();
    socket.destroy();
  });
}
