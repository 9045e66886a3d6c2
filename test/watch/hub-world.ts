/**
 * A hub among everything that can happen to it, and a naive model of what its clients must see.
 *
 * The model keeps the whole history and, for every watcher, what it was told. Checks run at every
 * delivery: whole revisions, in order, once, nothing foreign, nothing left out before a later event or
 * a progress notification.
 */
import { expect } from 'vitest';
import { contains, intervalOf } from '../../server/mvcc/interval.ts';
import type { Event, KeyValue } from '../../server/mvcc/types.ts';
import { Hub } from '../../server/watch/hub.ts';
import type { WatchStream } from '../../server/watch/stream.ts';
import type { RevisionEvents } from '../../server/watch/watch-event.ts';
import type { Delivery } from '../../server/watch/watcher.ts';

export const FIRST_REVISION = 1;

export type Change = { readonly key: string; readonly remove: boolean; readonly size: number };
export type Ask = {
  readonly key: string;
  readonly rangeEnd: string;
  readonly startRevision: number;
  readonly puts: boolean;
  readonly deletes: boolean;
  readonly prevKv: boolean;
};

type Seen = {
  readonly ask: Ask;
  readonly stream: Client;
  /** The first revision it may hear of. */
  readonly from: number;
  /** Every revision up to here has been delivered, as far as events tell. */
  upTo: number;
  state: 'live' | 'canceled' | 'compacted';
};

type Client = {
  readonly stream: WatchStream;
  readonly watchers: Map<bigint, Seen>;
  /** Watchers asked for and not yet confirmed, in order. */
  readonly asked: { readonly ask: Ask; readonly atRevision: number }[];
  wasReady: boolean;
};

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString();
const noBytes = new Uint8Array(0);

export class HubWorld {
  readonly hub: Hub;
  readonly clients: Client[] = [];
  readonly #history: RevisionEvents[] = [];
  readonly #current = new Map<string, KeyValue>();
  readonly #previous = new Map<string, KeyValue>();
  revision = FIRST_REVISION;
  compactRevision = -1;
  delivered = 0;
  historyReads = 0;

  constructor(options: { ringBytes: number; streamBytes: number; catchUpRevisions: number }) {
    this.hub = new Hub({
      ...options,
      revision: this.revision,
      compactRevision: this.compactRevision,
      source: {
        history: (from, { maxRevisions }) => {
          expect(from).toBeGreaterThanOrEqual(this.compactRevision);
          expect(from).toBeLessThanOrEqual(this.revision);
          this.historyReads += 1;
          return this.#since(from).slice(0, maxRevisions);
        },
        previous: (kv) => this.#previous.get(`${kv.modRevision}/${text(kv.key)}`),
      },
    });
  }

  #since(from: number): readonly RevisionEvents[] {
    return this.#history.slice(from - FIRST_REVISION - 1 < 0 ? 0 : from - FIRST_REVISION - 1);
  }

  /** Makes the next revision; one without effect makes none. */
  #advance(changes: readonly Change[]): RevisionEvents | undefined {
    const revision = this.revision + 1;
    const events: Event[] = [];
    const touched = new Set<string>();
    for (const { key, remove, size } of changes) {
      if (touched.has(key)) continue;
      const before = this.#current.get(key);
      if (remove && before === undefined) continue;
      touched.add(key);
      if (before !== undefined) this.#previous.set(`${revision}/${key}`, before);
      const kv: KeyValue = {
        key: Buffer.from(key),
        value: remove ? noBytes : Buffer.alloc(size, key),
        createRevision: remove ? 0 : (before?.createRevision ?? revision),
        modRevision: revision,
        version: remove ? 0 : (before?.version ?? 0) + 1,
        lease: 0n,
      };
      if (remove) this.#current.delete(key);
      else this.#current.set(key, kv);
      events.push({ kind: remove ? 'delete' : 'put', kv });
    }
    if (events.length === 0) return undefined;
    this.revision = revision;
    const entry = { revision, events };
    this.#history.push(entry);
    return entry;
  }

  publish(changes: readonly Change[]): void {
    const entry = this.#advance(changes);
    if (entry !== undefined) this.hub.publish(entry.revision, entry.events);
  }

  /** Several revisions are in the store before the first of them is published. */
  publishLate(revisions: readonly (readonly Change[])[]): void {
    const entries = revisions.flatMap((changes) => this.#advance(changes) ?? []);
    for (const { revision, events } of entries) {
      this.hub.catchUp();
      this.hub.publish(revision, events);
    }
  }

  /** The member was away while the others made these revisions; they compacted up to `compact`. */
  install(revisions: readonly (readonly Change[])[], compactRevision: number): void {
    for (const changes of revisions) this.#advance(changes);
    this.compactRevision = Math.max(this.compactRevision, Math.min(compactRevision, this.revision));
    this.hub.installed(this.revision, this.compactRevision);
  }

  compact(revision: number): void {
    if (revision <= this.compactRevision || revision > this.revision) return;
    this.compactRevision = revision;
    this.hub.compacted(revision);
  }

  connect(): Client {
    const client: Client = {
      stream: this.hub.open(() => {
        client.wasReady = true;
      }),
      watchers: new Map(),
      asked: [],
      wasReady: false,
    };
    this.clients.push(client);
    return client;
  }

  disconnect(client: Client): void {
    client.stream.close();
    this.clients.splice(this.clients.indexOf(client), 1);
  }

  ask(client: Client, ask: Ask): void {
    client.asked.push({ ask, atRevision: this.revision });
    client.stream.create({
      id: 0n,
      key: Buffer.from(ask.key),
      rangeEnd: ask.rangeEnd === '*' ? Uint8Array.of(0) : Buffer.from(ask.rangeEnd),
      startRevision: ask.startRevision,
      puts: ask.puts,
      deletes: ask.deletes,
      prevKv: ask.prevKv,
      progressNotify: true,
      fragment: false,
    });
  }

  #wanted(ask: Ask, event: Event): boolean {
    const rangeEnd = ask.rangeEnd === '*' ? Uint8Array.of(0) : Buffer.from(ask.rangeEnd);
    const interval = intervalOf({ key: Buffer.from(ask.key), rangeEnd });
    return contains(interval, event.kv.key) && (event.kind === 'put' ? ask.puts : ask.deletes);
  }

  /** What a watcher still has to be told, up to `to`. */
  #due(seen: Seen, to: number): readonly Event[] {
    return this.#history
      .filter(({ revision }) => revision >= seen.from && revision > seen.upTo && revision <= to)
      .flatMap(({ events }) => events.filter((event) => this.#wanted(seen.ask, event)));
  }

  /** Delivers up to `count` messages to the client. */
  take(client: Client, count: number): void {
    for (let taken = 0; taken < count; taken += 1) {
      const delivery = client.stream.take();
      if (delivery === undefined) return;
      this.delivered += 1;
      this.#receive(client, delivery);
    }
  }

  #receive(client: Client, delivery: Delivery): void {
    switch (delivery.kind) {
      case 'created': {
        const asked = client.asked.shift();
        if (asked === undefined) throw new Error('created without being asked');
        expect(client.watchers.has(delivery.id)).toBe(false);
        const from = asked.ask.startRevision === 0 ? asked.atRevision + 1 : asked.ask.startRevision;
        const seen: Seen = { ask: asked.ask, stream: client, from, upTo: 0, state: 'live' };
        client.watchers.set(delivery.id, seen);
        expect(delivery.revision).toBe(asked.atRevision);
        return;
      }
      case 'refused':
        client.asked.shift();
        return;
      case 'events': {
        const seen = client.watchers.get(delivery.id);
        if (seen?.state !== 'live') throw new Error('events for a watcher that is not there');
        const events = delivery.events.map((event) => event.event);
        const last = events.at(-1)?.kv.modRevision;
        if (last === undefined) throw new Error('a delivery without events');
        expect(events).toEqual(this.#due(seen, last));
        expect(delivery.revision).toBeGreaterThanOrEqual(last);
        if (seen.ask.prevKv) this.#checkPrevious(delivery);
        seen.upTo = last;
        return;
      }
      case 'progress': {
        const told = [...client.watchers].filter(
          ([id, { state }]) => state === 'live' && (delivery.id === -1n || id === delivery.id),
        );
        expect(told.length).toBeGreaterThan(0);
        for (const [, seen] of told) {
          expect(this.#due(seen, delivery.revision)).toEqual([]);
          expect(seen.from).toBeLessThanOrEqual(delivery.revision + 1);
          seen.upTo = Math.max(seen.upTo, delivery.revision);
        }
        return;
      }
      case 'canceled':
      case 'compacted': {
        const seen = client.watchers.get(delivery.id);
        if (seen?.state !== 'live') throw new Error('cancelled twice');
        seen.state = delivery.kind;
        if (delivery.kind === 'compacted') {
          expect(delivery.compactRevision).toBeLessThanOrEqual(this.compactRevision);
          expect(seen.from).toBeLessThan(delivery.compactRevision);
        }
        // The id may be given to another watcher of this stream.
        client.watchers.delete(delivery.id);
        return;
      }
    }
  }

  #checkPrevious(delivery: Delivery & { readonly kind: 'events' }): void {
    for (const { event, previous } of delivery.events) {
      const { modRevision, key } = event.kv;
      expect(previous).toEqual(this.#previous.get(`${modRevision}/${text(key)}`));
    }
  }

  /** Everybody reads on until nothing is left: then everything is known to everybody. */
  settle(): void {
    for (let isQuiet = false; !isQuiet; ) {
      isQuiet = true;
      for (const client of this.clients) {
        const before = this.delivered;
        this.take(client, Number.POSITIVE_INFINITY);
        if (this.delivered > before) isQuiet = false;
      }
      while (this.hub.catchUp()) isQuiet = false;
      if (this.clients.some((client) => client.stream.queuedBytes > 0)) isQuiet = false;
    }
    for (const client of this.clients) {
      expect(client.asked).toEqual([]);
      for (const seen of client.watchers.values()) {
        expect(this.#due(seen, this.revision)).toEqual([]);
      }
    }
    expect(this.hub.counts.behind).toBe(0);
  }
}
