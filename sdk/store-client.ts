/** A client over a connection, and its views under a prefix. */
import type { Client, ClientEvent } from './client.ts';
import type { Clock } from './clock.ts';
import type { ClusterApi } from './cluster.ts';
import { ClusterClient } from './cluster-client.ts';
import type { Connection } from './connection.ts';
import { closedError } from './errors.ts';
import type { ThreadConnection } from './keep-alive-protocol.ts';
import { KeepAliveThread } from './keep-alive-thread.ts';
import { Keyspace } from './keys.ts';
import type { Kv } from './kv.ts';
import { KvClient } from './kv-client.ts';
import type { Leases } from './lease.ts';
import { LeaseClient } from './lease-client.ts';
import type { Observable } from './observe.ts';
import type { Session, SessionOptions } from './session.ts';
import type { LeaseSession } from './session-client.ts';
import { openSession } from './session-opening.ts';
import { WatchHub } from './watch-hub.ts';

/** What a client and its namespaces have in common. */
type Shared = {
  readonly connection: Connection;
  readonly clock: Clock;
  readonly hub: WatchHub;
  readonly leases: Leases;
  readonly cluster: ClusterApi;
  readonly sessions: Set<LeaseSession>;
  /** Absent where there can be none. */
  readonly thread: KeepAliveThread | undefined;
};

export class StoreClient implements Client {
  readonly kv: Kv;
  readonly #shared: Shared;
  readonly #keyspace: Keyspace;
  /** Namespaces have none: they own nothing. */
  readonly #release: (() => Promise<void>) | undefined;
  #closing: Promise<void> | undefined;

  constructor(shared: Shared, keyspace: Keyspace, release?: () => Promise<void>) {
    this.#shared = shared;
    this.#keyspace = keyspace;
    this.#release = release;
    this.kv = new KvClient(shared.connection, keyspace, shared.hub);
  }

  get leases(): Leases {
    return this.#shared.leases;
  }

  get cluster(): ClusterApi {
    return this.#shared.cluster;
  }

  get clock(): Clock {
    return this.#shared.clock;
  }

  get random(): () => number {
    return this.#shared.connection.random;
  }

  get events$(): Observable<ClientEvent> {
    return this.#shared.connection.events.observable;
  }

  async session(options: SessionOptions = {}): Promise<Session> {
    const { connection, clock, hub, sessions, thread } = this.#shared;
    const kv = new KvClient(connection, new Keyspace(), hub);
    const onEnd = (ended: LeaseSession) => sessions.delete(ended);
    const session = await openSession(
      { client: this, connection, clock, kv, thread, onEnd },
      options,
    );
    if (this.#closing !== undefined || connection.closed) {
      await session.close();
      throw closedError();
    }
    sessions.add(session);
    return session;
  }

  namespace(prefix: string): Client {
    return new StoreClient(this.#shared, this.#keyspace.nested(prefix));
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    if (this.#release === undefined) return;
    await Promise.all([...this.#shared.sessions].map((session) => session.close()));
    await this.#shared.thread?.ended();
    this.#shared.hub.close();
    await this.#shared.connection.farewell();
    this.#shared.connection.close();
    await this.#release();
  }
}

export type ClientParts = {
  readonly connection: Connection;
  readonly clock: Clock;
  readonly namespace: string;
  readonly release: () => Promise<void>;
  /** What the keep-alive thread connects by; absent where there can be none. */
  readonly thread: ThreadConnection | undefined;
};

export const clientOver = ({
  connection,
  clock,
  namespace,
  release,
  thread,
}: ClientParts): Client => {
  const shared: Shared = {
    connection,
    clock,
    hub: new WatchHub(connection),
    leases: new LeaseClient(connection),
    cluster: new ClusterClient(connection),
    sessions: new Set(),
    thread: thread && new KeepAliveThread(thread, clock),
  };
  return new StoreClient(shared, new Keyspace(namespace), release);
};
