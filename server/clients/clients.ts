/**
 * Clients whose writes count once: a call that is proposed again, after a failure that left its
 * outcome open, gets the answer of the first time and changes nothing.
 *
 * The record of a call is stored in the same step as its effect, so every member that applied the
 * one knows the other, whatever restart, change of leader or snapshot came between. As with leases,
 * clocks only say when the leader proposes to forget a client; it is forgotten when that is applied.
 */
import { ExpiryHeap } from '../lease/expiry-heap.ts';
import { limits } from '../limits.ts';
import type { ForwardReader } from '../mvcc/draft.ts';
import type { Crc32c } from '../mvcc/hash.ts';
import { allClients } from '../mvcc/keys.ts';
import { slices } from '../mvcc/slices.ts';
import type { Bytes } from '../mvcc/types.ts';
import type { Write } from '../ports.ts';
import type { ClientCall, ClientId } from './call.ts';
import { Client, type Verdict } from './client.ts';
import {
  type CallRecord,
  decodeCall,
  decodeHead,
  encodeCall,
  encodeHead,
  headKey,
  placeOf,
  slotKey,
} from './records.ts';

/** A client that nothing was heard of for too long. */
export type IdleClient = { readonly id: ClientId; readonly idleSince: number };

export class Clients {
  readonly #clients = new Map<ClientId, Client>();
  readonly #schedule = new ExpiryHeap<Client>();

  get size(): number {
    return this.#clients.size;
  }

  has(id: ClientId): boolean {
    return this.#clients.has(id);
  }

  /** Bytes of the results that are kept for a client. */
  heldBytes(id: ClientId): number {
    return this.#clients.get(id)?.heldBytes ?? 0;
  }

  /** Reads what the state holds. Clients get their full time. */
  load(reader: ForwardReader, nowMs: number): void {
    this.clear();
    let records: [slot: number, record: CallRecord][] = [];
    let current: Client | undefined;
    const restore = (): void => {
      if (current === undefined) return;
      for (const [, { floor, index }] of records) {
        current.advance(floor);
        current.activeIndex = Math.max(current.activeIndex, index);
      }
      for (const [slot, { sequence, result }] of records) {
        current.restore(slot, sequence, result.length);
      }
      records = [];
    };
    for (const slice of slices(reader, allClients.start, allClients.end)) {
      for (const [key, value] of slice) {
        const { id, slot } = placeOf(key);
        if (slot === undefined) {
          restore();
          current = this.#add(id, decodeHead(value), nowMs);
        } else records.push([slot, decodeCall(value)]);
      }
    }
    restore();
  }

  /** Undefined when there are as many as there may be. */
  register(id: ClientId, index: number, nowMs: number): Write | undefined {
    if (this.#clients.size >= limits.clients) return undefined;
    const { head } = this.#add(id, index, nowMs);
    return { kind: 'put', key: head, value: encodeHead(index) };
  }

  /** What is known of a call before it is executed. Changes nothing. */
  judge(call: ClientCall): Verdict | 'unknown-client' {
    return this.#clients.get(call.id)?.judge(call) ?? 'unknown-client';
  }

  /** The answer that a call got, from the slot that `judge` returned for it. */
  firstResult(reader: ForwardReader, call: ClientCall, slot: number): Bytes | undefined {
    const data = reader.get(slotKey(headKey(call.id), slot));
    return data && decodeCall(data).result;
  }

  /**
   * How many bytes the answer to a new call may have: the rest is taken by answers that the client
   * still may ask for.
   */
  spaceFor(call: ClientCall): number {
    const client = this.#clients.get(call.id);
    if (client === undefined) return 0;
    client.advance(call.floor);
    const left = limits.clientResultsBytes - client.heldBytes;
    return Math.min(limits.clientResultBytes, left);
  }

  /**
   * Remembers a call that was judged `new` and is executed. Undefined when it ended its own client.
   */
  record(call: ClientCall, index: number, nowMs: number, result: Bytes): Write | undefined {
    const client = this.#clients.get(call.id);
    if (client === undefined) return undefined;
    client.advance(call.floor);
    client.activeIndex = index;
    client.activeMs = nowMs;
    const key = slotKey(client.head, client.hold(call.sequence, result.length));
    const { sequence } = call;
    return {
      kind: 'put',
      key,
      value: encodeCall({ sequence, floor: client.floor, index, result }),
    };
  }

  /** Removes a client and all that is known of its calls. */
  forget(id: ClientId): Write[] {
    const client = this.#clients.get(id);
    if (client === undefined) return [];
    this.#clients.delete(id);
    this.#schedule.remove(client);
    const writes: Write[] = [{ kind: 'remove', key: client.head }];
    for (let slot = 0; slot < client.slotsEnd; slot += 1) {
      writes.push({ kind: 'remove', key: slotKey(client.head, slot) });
    }
    return writes;
  }

  /** As `forget`, unless an entry after `idleSince` was the client's: then it starts its time anew. */
  expire(id: ClientId, idleSince: number): Write[] {
    const client = this.#clients.get(id);
    if (client !== undefined && client.activeIndex > idleSince) {
      this.reoffer(id);
      return [];
    }
    return this.forget(id);
  }

  /**
   * Clients whose time is over, at most `max`. Each is returned once: the caller proposes its end, or
   * gives it back with `reoffer`.
   */
  idle(nowMs: number, max: number): readonly IdleClient[] {
    const found: IdleClient[] = [];
    while (found.length < max) {
      const client = this.#schedule.first;
      if (client === undefined || client.expiresAtMs > nowMs) break;
      const expiresAtMs = client.activeMs + limits.clientTtlSeconds * 1000;
      if (expiresAtMs > nowMs) {
        client.expiresAtMs = expiresAtMs;
        this.#schedule.schedule(client);
      } else {
        this.#schedule.remove(client);
        client.isExpiring = true;
        found.push({ id: client.id, idleSince: client.activeIndex });
      }
    }
    return found;
  }

  /** Undoes `idle` for a client whose end was certainly not proposed, or did not take effect. */
  reoffer(id: ClientId): void {
    const client = this.#clients.get(id);
    if (client === undefined || !client.isExpiring) return;
    client.isExpiring = false;
    this.#schedule.schedule(client);
  }

  /** On becoming leader: every client gets its full time, as its last write may be long ago here. */
  extendAll(nowMs: number): void {
    for (const client of this.#clients.values()) {
      client.isExpiring = false;
      client.activeMs = nowMs;
      client.expiresAtMs = nowMs + limits.clientTtlSeconds * 1000;
      this.#schedule.schedule(client);
    }
  }

  /** Adds everything to a checksum. Pauses. */
  *addTo(crc: Crc32c, reader: ForwardReader): Generator<void, void> {
    for (const slice of slices(reader, allClients.start, allClients.end)) {
      for (const [key, value] of slice) {
        crc.addField(key);
        crc.addField(value);
      }
      yield;
    }
  }

  /** Forgets everything, before a snapshot is loaded. */
  clear(): void {
    for (const client of this.#clients.values()) this.#schedule.remove(client);
    this.#clients.clear();
  }

  #add(id: ClientId, index: number, nowMs: number): Client {
    const client = new Client(id, index, nowMs);
    this.#clients.set(id, client);
    this.#schedule.schedule(client);
    return client;
  }
}

/** What removes all clients: a restored store begins a new cluster, and gives out its ids anew. */
export function forgetClients(reader: ForwardReader): Write[] {
  const removals: Write[] = [];
  for (const slice of slices(reader, allClients.start, allClients.end)) {
    for (const [key] of slice) removals.push({ kind: 'remove', key });
  }
  return removals;
}
