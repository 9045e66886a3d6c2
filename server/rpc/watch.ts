/**
 * The Watch stream of one client.
 *
 * What its watchers are told comes out of the hub's queue only as fast as the transport takes it:
 * whatever the client does, what is held for it is the queue's bound plus one window. Its half-close
 * changes nothing; the stream ends with the connection, or when the server stops.
 */
import { Fault } from '../faults.ts';
import type { WatchStream } from '../watch/stream.ts';
import { WatchCreateRequest_FilterType, WatchRequest } from '../wire/etcdserverpb/rpc.ts';
import { toNumber } from './convert.ts';
import { decode } from './method.ts';
import type { ServedStream } from './served-stream.ts';
import type { ServiceContext } from './services.ts';
import { statusOf } from './status.ts';
import type { OpenStream, OpenStreams } from './streams.ts';
import { encodeDelivery } from './watch-encoding.ts';

/** Bytes handed to the transport before it has to confirm some. */
const WINDOW_BYTES = 256 * 1024;
/** What the transport holds for a message beside its bytes, so that many small ones count too. */
const MESSAGE_OVERHEAD_BYTES = 256;
/** Queued bytes from which the client's requests wait too: each of them may add an answer. */
const REQUEST_PAUSE_BYTES = 64 * 1024;
/** etcd spreads progress notifications by a tenth of the interval. */
const PROGRESS_JITTER = 0.1;

export type WatchOptions = {
  readonly streams: OpenStreams;
  readonly needsLeader: boolean;
  readonly progressIntervalMs: number;
  readonly maxMessageBytes: number;
};

export function serveWatch(
  call: ServedStream,
  { member, random, timers }: ServiceContext,
  options: WatchOptions,
): void {
  let inFlightBytes = 0;
  let isOver = false;
  let isFlushScheduled = false;

  const flush = () => {
    isFlushScheduled = false;
    while (!isOver && inFlightBytes < WINDOW_BYTES) {
      const delivery = watchers.take();
      if (delivery === undefined) break;
      for (const message of encodeDelivery(member, delivery, options.maxMessageBytes)) {
        const bytes = message.length + MESSAGE_OVERHEAD_BYTES;
        inFlightBytes += bytes;
        call.write(message, () => {
          inFlightBytes -= bytes;
          if (inFlightBytes < WINDOW_BYTES) scheduleFlush();
        });
      }
    }
    if (call.isPaused() && watchers.queuedBytes < REQUEST_PAUSE_BYTES) call.resume();
  };
  /** Everything that becomes ready in one turn leaves in one go. */
  const scheduleFlush = () => {
    if (isFlushScheduled || isOver) return;
    isFlushScheduled = true;
    queueMicrotask(flush);
  };
  const watchers = member.hub.open(scheduleFlush);

  const jitter = 1 + (PROGRESS_JITTER * random.below(1000)) / 1000;
  const stopProgress = timers.every(options.progressIntervalMs * jitter, () =>
    watchers.tickProgress(),
  );

  const finish = (error: unknown) => {
    if (isOver) return;
    isOver = true;
    options.streams.delete(stream);
    stopProgress();
    watchers.close();
    call.emit('error', statusOf(error));
  };
  const stream: OpenStream = {
    needsLeader: options.needsLeader,
    fail: (fault: Fault) => finish(fault),
  };
  options.streams.add(stream);

  call.on('data', (bytes: Buffer) => {
    if (isOver) return;
    try {
      handle(watchers, decode(WatchRequest, bytes));
    } catch (error) {
      finish(error);
      return;
    }
    if (watchers.queuedBytes >= REQUEST_PAUSE_BYTES) call.pause();
  });
  call.on('cancelled', () => finish(new Fault('canceled')));
}

/** A request without content is ignored, and so is an unknown filter, as in etcd. */
function handle(watchers: WatchStream, { requestUnion }: WatchRequest): void {
  switch (requestUnion?.$case) {
    case 'createRequest': {
      const request = requestUnion.value;
      const excluded: readonly number[] = request.filters;
      watchers.create({
        id: request.watchId,
        key: request.key,
        rangeEnd: request.rangeEnd,
        startRevision: toNumber(request.startRevision),
        puts: !excluded.includes(WatchCreateRequest_FilterType.NOPUT),
        deletes: !excluded.includes(WatchCreateRequest_FilterType.NODELETE),
        prevKv: request.prevKv,
        progressNotify: request.progressNotify,
        fragment: request.fragment,
      });
      break;
    }
    case 'cancelRequest':
      watchers.cancel(requestUnion.value.watchId);
      break;
    case 'progressRequest':
      watchers.requestProgress();
      break;
    case undefined:
      break;
  }
}
