/**
 * The LeaseKeepAlive stream: an answer to every request, in the order of the requests, which are
 * renewed side by side. It ends when the client ends its half.
 */
import { Fault } from '../faults.ts';
import { joined } from '../http2/message.ts';
import type { UnaryMethod } from './method.ts';
import type { ServedStream } from './served-stream.ts';
import { statusOf } from './status.ts';
import type { OpenStream, OpenStreams } from './streams.ts';

/** Renewals under way on one stream before it is read no further. */
const MAX_PENDING = 1_000;

export function serveKeepAlive(
  call: ServedStream,
  keepAlive: UnaryMethod,
  options: { readonly streams: OpenStreams; readonly needsLeader: boolean },
): void {
  const gone = new AbortController();
  let pending = 0;
  let answers = Promise.resolve();
  let isOver = false;

  const finish = (error?: unknown) => {
    if (isOver) return;
    isOver = true;
    options.streams.delete(stream);
    gone.abort();
    if (error === undefined) call.end();
    else call.emit('error', statusOf(error));
  };
  const stream: OpenStream = {
    needsLeader: options.needsLeader,
    fail: (fault: Fault) => finish(fault),
  };
  options.streams.add(stream);

  call.on('data', (request: Buffer) => {
    pending += 1;
    if (pending >= MAX_PENDING) call.pause();
    const renewed = keepAlive.invoke(request, {
      signal: gone.signal,
      requestBytes: request.length,
    });
    // The chain below takes the failure; until it gets there nobody else would.
    renewed.catch(() => {});
    answers = answers
      .then(() => renewed)
      .then((answer) => write(call, joined(answer), gone.signal))
      .then(() => {
        pending -= 1;
        if (pending < MAX_PENDING) call.resume();
      })
      .catch(finish);
  });
  call.on('end', () => void answers.then(() => finish()));
  call.on('cancelled', () => finish(new Fault('canceled')));
}

/** Resolves once the transport takes more. */
async function write(call: ServedStream, message: Buffer, gone: AbortSignal): Promise<void> {
  if (gone.aborted || call.write(message)) return;
  await new Promise<void>((resolve) => {
    call.once('drain', resolve);
    gone.addEventListener('abort', () => resolve(), { once: true });
  });
}
