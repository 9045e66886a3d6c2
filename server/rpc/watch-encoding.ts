/**
 * Deliveries as encoded WatchResponses. An event is encoded once, however many watchers get it: a
 * response is a small head followed by shared bytes.
 */

import type { Revision } from '../mvcc/types.ts';
import type { WatchEvent } from '../watch/watch-event.ts';
import type { Delivery } from '../watch/watcher.ts';
import { NO_WATCH_ID } from '../watch/watcher.ts';
import { BinaryWriter } from '../wire/binary.ts';
import { ResponseHeader, WatchResponse } from '../wire/etcdserverpb/rpc.ts';
import { Event, Event_EventType } from '../wire/mvccpb/kv.ts';
import { keyValue } from './convert.ts';
import { headerAt } from './header.ts';
import type { MemberFacts } from './member.ts';

/** Fields of WatchResponse with their wire types. */
const tags = {
  header: (1 << 3) | 2,
  watchId: 2 << 3,
  fragment: 7 << 3,
  event: (11 << 3) | 2,
} as const;

type EventsDelivery = Extract<Delivery, { readonly kind: 'events' }>;

/** The messages for one delivery, in order: more than one only if the watcher allows fragments. */
export function encodeDelivery(
  member: MemberFacts,
  delivery: Delivery,
  maxMessageBytes: number,
): readonly Buffer[] {
  if (delivery.kind !== 'events') return [encodeAnswer(member, delivery)];
  const events = delivery.events.map((event) => encodeEvent(event, delivery.prevKv));
  const fragments = delivery.fragment ? split(events, maxMessageBytes) : [events];
  const header = encodeHeader(member, delivery.revision);
  return fragments.map((fragment, index) =>
    join(encodeHead(header, delivery, index < fragments.length - 1), fragment),
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

/** As `Buffer.concat`, at a fraction of its cost for a few small parts. */
function join(head: Buffer, events: readonly Uint8Array[]): Buffer {
  let length = head.length;
  for (const event of events) length += event.length;
  const message = Buffer.allocUnsafe(length);
  message.set(head);
  let at = head.length;
  for (const event of events) {
    message.set(event, at);
    at += event.length;
  }
  return message;
}

/** All watchers of an event get the same header, one after another: the last one made is kept. */
let kept:
  | {
      readonly member: MemberFacts;
      readonly term: number;
      readonly revision: Revision;
      readonly bytes: Buffer;
    }
  | undefined;

function encodeHeader(member: MemberFacts, revision: Revision): Buffer {
  const { term } = member;
  if (kept?.member === member && kept.term === term && kept.revision === revision) {
    return kept.bytes;
  }
  const bytes = Buffer.from(ResponseHeader.encode(headerAt(member, revision)).finish());
  kept = { member, term, revision, bytes };
  return bytes;
}

/** All of a response but its events. */
function encodeHead(header: Buffer, { id }: EventsDelivery, isFragment: boolean): Buffer {
  const writer = new BinaryWriter().uint32(tags.header).bytes(header);
  if (id !== 0n) writer.uint32(tags.watchId).int64(id);
  if (isFragment) writer.uint32(tags.fragment).bool(true);
  return writer.finish();
}

function encodeAnswer(member: MemberFacts, delivery: Exclude<Delivery, EventsDelivery>): Buffer {
  const { kind } = delivery;
  const response: WatchResponse = {
    header: headerAt(member, kind === 'compacted' ? 0 : delivery.revision),
    watchId: kind === 'refused' ? NO_WATCH_ID : delivery.id,
    created: kind === 'created' || kind === 'refused',
    canceled: kind === 'canceled' || kind === 'compacted' || kind === 'refused',
    compactRevision: kind === 'compacted' ? BigInt(delivery.compactRevision) : 0n,
    cancelReason: kind === 'refused' ? delivery.reason : '',
    fragment: false,
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
  const message: Event = {
    type: event.kind === 'put' ? Event_EventType.PUT : Event_EventType.DELETE,
    kv: keyValue(event.kv),
    prevKv: withPrevious && previous !== undefined ? keyValue(previous) : undefined,
  };
  const field = Event.encode(message, new BinaryWriter().uint32(tags.event).fork()).join().finish();
  // A copy: it is kept as long as the event, and must not keep what else was written beside it.
  return Buffer.from(field);
}
