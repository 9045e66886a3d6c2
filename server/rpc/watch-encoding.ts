/**
 * Deliveries as encoded WatchResponses. An event is encoded once, however many watchers get it: a
 * response is a small head followed by shared bytes.
 */

import type { WatchEvent } from '../watch/watch-event.ts';
import type { Delivery } from '../watch/watcher.ts';
import { NO_WATCH_ID } from '../watch/watcher.ts';
import { WatchResponse } from '../wire/etcdserverpb/rpc.ts';
import { Event, Event_EventType } from '../wire/mvccpb/kv.ts';
import { keyValue } from './convert.ts';
import { headerAt } from './header.ts';
import type { MemberFacts } from './member.ts';

/** Field 11 of WatchResponse, length-delimited. */
const EVENT_TAG = (11 << 3) | 2;

/** The messages for one delivery, in order: more than one only if the watcher allows fragments. */
export function encodeDelivery(
  member: MemberFacts,
  delivery: Delivery,
  maxMessageBytes: number,
): readonly Buffer[] {
  if (delivery.kind !== 'events') return [encodeHead(member, delivery, false)];
  const events = delivery.events.map((event) => encodeEvent(event, delivery.prevKv));
  const fragments = delivery.fragment ? split(events, maxMessageBytes) : [events];
  return fragments.map((fragment, index) =>
    Buffer.concat([encodeHead(member, delivery, index < fragments.length - 1), ...fragment]),
  );
}

/** At least one event each; the next one goes on the next fragment once `maxBytes` are reached. */
function split(events: readonly Uint8Array[], maxBytes: number): readonly Uint8Array[][] {
  const fragments: Uint8Array[][] = [];
  let last: Uint8Array[] = [];
  let bytes = maxBytes;
  for (const event of events) {
    if (bytes + event.length > maxBytes) {
      last = [];
      fragments.push(last);
      bytes = 0;
    }
    last.push(event);
    bytes += event.length;
  }
  return fragments;
}

function encodeHead(member: MemberFacts, delivery: Delivery, fragment: boolean): Buffer {
  const response: WatchResponse = {
    header: headerAt(member, delivery.kind === 'compacted' ? 0 : delivery.revision),
    watchId: delivery.kind === 'refused' ? NO_WATCH_ID : delivery.id,
    created: delivery.kind === 'created' || delivery.kind === 'refused',
    canceled:
      delivery.kind === 'canceled' || delivery.kind === 'compacted' || delivery.kind === 'refused',
    compactRevision: delivery.kind === 'compacted' ? BigInt(delivery.compactRevision) : 0n,
    cancelReason: delivery.kind === 'refused' ? delivery.reason : '',
    fragment,
    events: [],
  };
  return WatchResponse.encode(response).finish();
}

/** The event as field of a response, tag and length included. */
function encodeEvent(event: WatchEvent, withPrevious: boolean): Uint8Array {
  if (withPrevious && event.previous !== undefined) {
    event.encodedWithPrevious ??= encodeField(event, true);
    return event.encodedWithPrevious;
  }
  event.encoded ??= encodeField(event, false);
  return event.encoded;
}

function encodeField({ event, previous }: WatchEvent, withPrevious: boolean): Uint8Array {
  const body = Event.encode({
    type: event.kind === 'put' ? Event_EventType.PUT : Event_EventType.DELETE,
    kv: keyValue(event.kv),
    prevKv: withPrevious && previous !== undefined ? keyValue(previous) : undefined,
  }).finish();
  const head = [EVENT_TAG];
  let length = body.length;
  while (length >= 0x80) {
    head.push((length & 0x7f) | 0x80);
    length >>>= 7;
  }
  head.push(length);
  return Buffer.concat([Uint8Array.from(head), body]);
}
