/**
 * Finds out what a new connection speaks, from its first bytes: HTTP/2 begins with a fixed preface.
 *
 * A connection that does not say within the time given is closed: ten thousand silent ones must cost
 * no more than their sockets, and those for a few seconds.
 */
import type { Socket } from 'node:net';

/** RFC 9113 section 3.4. */
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');

export type Protocol = 'http1' | 'http2';

/** Calls `decided` once, with the bytes read put back, or destroys the socket. */
export function sniff(
  socket: Socket,
  timeoutMs: number,
  decided: (protocol: Protocol) => void,
): void {
  let seen: Buffer = Buffer.alloc(0);
  const timer = setTimeout(() => socket.destroy(), timeoutMs);
  const stop = () => {
    clearTimeout(timer);
    socket.off('readable', onReadable);
    socket.off('error', onError);
    socket.off('close', stop);
  };
  const onError = () => socket.destroy();
  const onReadable = () => {
    // Never more than the preface is held: the rest stays in the kernel.
    const chunk: Buffer | null = socket.read();
    if (chunk === null) return;
    seen = seen.length === 0 ? chunk : Buffer.concat([seen, chunk]);
    const length = Math.min(seen.length, PREFACE.length);
    const isPreface = seen.subarray(0, length).equals(PREFACE.subarray(0, length));
    if (isPreface && length < PREFACE.length) return;
    stop();
    socket.unshift(seen);
    decided(isPreface ? 'http2' : 'http1');
  };
  socket.on('readable', onReadable);
  socket.on('error', onError);
  socket.on('close', stop);
}
