/**
 * A client's watches over a made-up connection to the server's own watch hub, and what each of them
 * must see: the whole history is kept, and every notice is held against it when it is read.
 */
import { Status } from 'nice-grpc-common';
import { expect } from 'vitest';
import { AsyncBuffer } from '../../sdk/async-buffer.ts';
import type { Client } from '../../sdk/client.ts';
import { connectOver } from '../../sdk/connect.ts';
import type { MethodName, RequestOf, ResponseOf } from '../../sdk/methods.ts';
import { type MemberTransport, type StreamOptions, TransportFailure } from '../../sdk/transport.ts';
import type { Watch, WatchNotice, WatchOptions } from '../../sdk/watch.ts';
import type { Event, KeyValue } from '../../server/mvcc/types.ts';
import { keyValue } from '../../server/rpc/convert.ts';
import type { MemberFacts } from '../../server/rpc/member.ts';
import { encodeDelivery } from '../../server/rpc/watch-encoding.ts';
import { Hub } from '../../server/watch/hub.ts';
import type { WatchStream } from '../../server/watch/stream.ts';
import type { RevisionEvents } from '../../server/watch/watch-event.ts';
import {
  RangeResponse,
  type SnapshotResponse,
  type WatchRequest,
  WatchResponse,
} from '../../server/wire/etcdserverpb/rpc.ts';
import { ManualClock } from '../support/manual-clock.ts';

export type Change = { readonly key: string; readonly remove: boolean };

const facts = { clusterId: 1n, memberId: 2n, term: 3 } as MemberFacts;
const noBytes = new Uint8Array(0);
/** Small, so that a revision of some changes comes in pieces. */
const maxMessageBytes = 100;

export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

type Tap = { readonly stream: WatchStream; readonly responses: AsyncBuffer<WatchResponse> };

/** The store, on whose answers the client waits until `deliver`. */
export class WatchStore {
  readonly hub: Hub;
  readonly #history: RevisionEvents[] = [];
  readonly #current = new Map<string, KeyValue>();
  readonly #transports = new Set<StoreTransport>();
  readonly taps = new Set<Tap>();
  revision = 1;
  compactRevision = -1;
  accepts = true;
  /** Answers that came to the client. */
  answers = 0;
  /** What watches were asked for, as start revisions. */
  readonly starts: number[] = [];

  constructor(options: { streamBytes: number; catchUpRevisions: number }) {
    this.hub = new Hub({
      ...options,
      ringBytes: 1_000,
      revision: this.revision,
      compactRevision: this.compactRevision,
      source: {
        history: (from, { maxRevisions }) =>
          this.#history.slice(Math.max(0, from - 2)).slice(0, maxRevisions),
        previous: () => undefined,
      },
    });
  }

  put(changes: readonly Change[]): void {
    const revision = this.revision + 1;
    const events = new Map<string, Event>();
    for (const { key, remove } of changes) {
      const before = this.#current.get(key);
      if (events.has(key) || (remove && before === undefined)) continue;
      const kv: KeyValue = {
        key: Buffer.from(key),
        value: remove ? noBytes : Buffer.from(`${revision}`),
        createRevision: remove ? 0 : (before?.createRevision ?? revision),
        modRevision: revision,
        version: remove ? 0 : (before?.version ?? 0) + 1,
        lease: 0n,
      };
      if (remove) this.#current.delete(key);
      else this.#current.set(key, kv);
      events.set(key, { kind: remove ? 'delete' : 'put', kv });
    }
    if (events.size === 0) return;
    this.revision = revision;
    const entry = { revision, events: [...events.values()] };
    this.#history.push(entry);
    this.hub.publish(revision, entry.events);
  }

  compact(revision: number): void {
    if (revision <= this.compactRevision || revision > this.revision) return;
    this.compactRevision = revision;
    this.hub.compacted(revision);
  }

  /** What happened from one revision to another, both included, as texts. */
  happened(from: bigint, to: bigint, wants: (event: Event) => boolean): readonly string[] {
    return this.#history
      .filter(({ revision }) => from <= revision && revision <= to)
      .flatMap(({ events }) => events.filter(wants))
      .map(({ kind, kv }) => `${kind} ${Buffer.from(kv.key)} ${kv.modRevision}`);
  }

  listing(): readonly KeyValue[] {
    return [...this.#current.values()].sort((a, b) => Buffer.compare(a.key, b.key));
  }

  /** Up to so many answers on their way arrive. */
  deliver(count: number): void {
    for (const { stream, responses } of this.taps) {
      for (let taken = 0; taken < count; taken++) {
        const delivery = stream.take();
        if (delivery === undefined) break;
        for (const message of encodeDelivery(facts, delivery, maxMessageBytes)) {
          this.answers += 1;
          responses.push(WatchResponse.decode(message));
        }
      }
    }
  }

  open(): StoreTransport {
    return new StoreTransport(this, this.#transports);
  }

  /** The connection breaks; answers on their way are lost. */
  cut(): void {
    for (const transport of [...this.#transports]) transport.close();
  }
}

class StoreTransport implements MemberTransport {
  readonly #store: WatchStore;
  readonly #all: Set<StoreTransport>;
  readonly #taps = new Set<Tap>();
  readonly received = 0;
  #break: () => void = () => undefined;
  readonly #broken = new Promise<void>((resolve) => {
    this.#break = resolve;
  });

  constructor(store: WatchStore, all: Set<StoreTransport>) {
    this.#store = store;
    this.#all = all;
    all.add(this);
  }

  async connected(): Promise<void> {
    if (!this.#store.accepts) throw lost();
  }

  broken(): Promise<void> {
    return this.#broken;
  }

  async unary<M extends MethodName>(method: M, request: RequestOf<M>): Promise<ResponseOf<M>> {
    if (!this.#all.has(this)) throw lost();
    if (method !== 'range') return {} as ResponseOf<M>;
    const { key, rangeEnd } = request as RequestOf<'range'>;
    const isInside = (kv: KeyValue) =>
      Buffer.compare(kv.key, key) >= 0 && Buffer.compare(kv.key, rangeEnd) < 0;
    const response = RangeResponse.fromPartial({
      header: { revision: BigInt(this.#store.revision) },
      kvs: this.#store.listing().filter(isInside).map(keyValue),
    });
    return response as ResponseOf<M>;
  }

  async *watch(
    requests: AsyncIterable<WatchRequest>,
    { signal }: StreamOptions,
  ): AsyncIterable<WatchResponse> {
    const responses = new AsyncBuffer<WatchResponse>();
    const stream = this.#store.hub.open(() => undefined);
    const tap = { stream, responses };
    this.#taps.add(tap);
    this.#store.taps.add(tap);
    signal.addEventListener('abort', () => this.#end(tap));
    void this.#serve(stream, requests);
    yield* responses;
    throw lost();
  }

  async #serve(stream: WatchStream, requests: AsyncIterable<WatchRequest>): Promise<void> {
    for await (const { requestUnion } of requests) {
      if (requestUnion?.$case === 'cancelRequest') stream.cancel(requestUnion.value.watchId);
      if (requestUnion?.$case !== 'createRequest') continue;
      const { value } = requestUnion;
      const filters: readonly number[] = value.filters;
      this.#store.starts.push(Number(value.startRevision));
      stream.create({
        ...{ id: value.watchId, key: value.key, rangeEnd: value.rangeEnd },
        startRevision: Number(value.startRevision),
        puts: !filters.includes(0),
        deletes: !filters.includes(1),
        prevKv: value.prevKv,
        progressNotify: value.progressNotify,
        fragment: value.fragment,
      });
    }
  }

  #end(tap: Tap): void {
    tap.stream.close();
    tap.responses.end();
    this.#taps.delete(tap);
    this.#store.taps.delete(tap);
  }

  async *snapshot(): AsyncIterable<SnapshotResponse> {}

  close(): void {
    this.#all.delete(this);
    for (const tap of this.#taps) this.#end(tap);
    this.#break();
  }
}

const lost = () => new TransportFailure('status', Status.UNAVAILABLE, 'connection lost', true);

export type Ask = Pick<WatchOptions, 'puts' | 'deletes' | 'progress' | 'highWaterMark'> & {
  readonly prefix: string;
  /** Undefined for "now". */
  readonly from: number | undefined;
};

/** One watch and its consumer, who reads when told to. */
export class Follower {
  readonly watch: Watch;
  readonly ask: Ask;
  readonly notices: WatchNotice[] = [];
  readonly #store: WatchStore;
  readonly #askedAt: number;
  readonly #iterator: AsyncIterator<WatchNotice, undefined>;
  #wanted = 0;
  #wake: () => void = () => undefined;
  /** The first revision it has not been told of; undefined until "now" is known. */
  cursor: bigint | undefined;
  isCancelled = false;
  failure: unknown;

  constructor(store: WatchStore, client: Client, ask: Ask) {
    this.#store = store;
    this.ask = ask;
    this.#askedAt = store.revision;
    const { prefix, from, ...options } = ask;
    this.cursor = from === undefined ? undefined : BigInt(from);
    const start = from === undefined ? {} : { from: BigInt(from) };
    this.watch = client.kv.watch({ prefix }, { ...options, ...start });
    this.#iterator = this.watch[Symbol.asyncIterator]();
    void this.#read().catch((error: unknown) => {
      this.failure = error;
    });
  }

  /** Reads so many notices more. */
  read(count: number): void {
    this.#wanted += count;
    if (count > 0) this.#wake();
  }

  async #read(): Promise<void> {
    for (;;) {
      if (this.#wanted === 0 && !this.isCancelled) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
      this.#wanted -= 1;
      const { value } = await this.#iterator.next();
      if (value === undefined) return;
      await this.#check(value);
      this.notices.push(value);
    }
  }

  readonly #wants = ({ kind, kv }: Event): boolean =>
    Buffer.from(kv.key).toString().startsWith(this.ask.prefix) &&
    (kind === 'put' ? this.ask.puts !== false : this.ask.deletes !== false);

  async #check(notice: WatchNotice): Promise<void> {
    const { revision: created } = await this.watch.created;
    if (this.cursor === undefined) {
      expect(created).toBeGreaterThanOrEqual(BigInt(this.#askedAt));
      this.cursor = created + 1n;
    }
    const { cursor } = this;
    switch (notice.type) {
      case 'events': {
        const told = notice.events.map(({ type, kv }) => `${type} ${kv.key} ${kv.modRevision}`);
        expect(told).toEqual(this.#store.happened(cursor, notice.revision, this.#wants));
        this.cursor = notice.revision + 1n;
        return;
      }
      case 'progress':
        expect(this.#store.happened(cursor, notice.revision, this.#wants)).toEqual([]);
        expect(notice.revision + 1n).toBeGreaterThanOrEqual(cursor);
        return;
      case 'reset':
        expect(cursor).toBeLessThan(notice.compactRevision);
        expect(notice.revision).toBeGreaterThanOrEqual(notice.compactRevision);
        this.cursor = notice.revision + 1n;
    }
  }

  /** What it should have been told and was not. */
  get missing(): readonly string[] {
    if (this.cursor === undefined || this.isCancelled) return [];
    return this.#store.happened(this.cursor, BigInt(this.#store.revision), this.#wants);
  }

  async cancel(): Promise<void> {
    this.isCancelled = true;
    this.#wake();
    await this.watch.cancel();
  }
}

export class WatchWorld {
  readonly store: WatchStore;
  readonly client: Client;
  readonly clock: ManualClock;
  readonly followers: Follower[] = [];

  private constructor(store: WatchStore, client: Client, clock: ManualClock) {
    this.store = store;
    this.client = client;
    this.clock = clock;
  }

  static async start(
    options = { streamBytes: 100_000, catchUpRevisions: 1_000 },
  ): Promise<WatchWorld> {
    const store = new WatchStore(options);
    const clock = new ManualClock();
    const client = await connectOver(
      { openTransport: () => store.open() },
      { endpoints: 'store:1', clock, retry: { minDelay: 5, maxDelay: 10 } },
    );
    return new WatchWorld(store, client, clock);
  }

  follow(ask: Ask): Follower {
    const follower = new Follower(this.store, this.client, ask);
    this.followers.push(follower);
    return follower;
  }

  /** Requests arrive, catching up goes on, answers arrive and are read, until nothing moves. */
  async settle(followers: readonly Follower[] = this.followers): Promise<void> {
    for (let quiet = 0; quiet < 3; ) {
      const before = this.#progress(followers);
      for (const follower of followers) follower.read(1_000_000);
      await turn();
      this.clock.advance(20);
      while (this.store.hub.catchUp());
      this.store.deliver(1_000_000);
      await turn();
      quiet = this.#progress(followers) === before ? quiet + 1 : 0;
    }
    this.check();
  }

  #progress(followers: readonly Follower[]): string {
    const { answers, starts } = this.store;
    return [answers, starts.length, ...followers.map(({ notices }) => notices.length)].join();
  }

  check(): void {
    for (const { failure } of this.followers) if (failure !== undefined) throw failure;
  }

  async close(): Promise<void> {
    for (const follower of this.followers) await follower.cancel();
    await this.client.close();
  }
}
