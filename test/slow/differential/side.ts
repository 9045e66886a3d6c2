/** One of the two servers under comparison: its client, its lease ids and its watch streams. */
import { ClientError } from 'nice-grpc-common';
import type {
  LeaseKeepAliveRequest,
  LeaseKeepAliveResponse,
} from '../../../server/wire/etcdserverpb/rpc.ts';
import type { CallName, CallRequests, CallStep, Symbols } from '../../support/generators/step.ts';
import { type ServerOptions, type SystemName, TestServer } from '../../support/servers.ts';
import { within } from '../../support/wait.ts';
import { connectWire, type WireClient } from '../../support/wire-client.ts';
import { normalise, type Outcome } from './normalise.ts';
import { barrierKey, WatchStream } from './watch-stream.ts';

const callTimeoutMs = 10_000;
/** A slot that was not granted yet stands for a lease that does not exist. */
const ungrantedLeaseBase = 555_000n;

export class Side {
  readonly server: TestServer;
  readonly client: WireClient;
  readonly streams: WatchStream[] = [];
  readonly #leaseIds = new Map<number, bigint>();
  readonly #chosenIds = new Map<bigint, string>();

  private constructor(server: TestServer) {
    this.server = server;
    this.client = connectWire(server.endpoint);
  }

  static async start(system: SystemName, options?: ServerOptions): Promise<Side> {
    return new Side(await TestServer.start(system, options));
  }

  symbols(state: { base: bigint; current: bigint; compacted: bigint }): Symbols {
    return {
      ...state,
      lease: (slot) => this.#leaseIds.get(slot) ?? ungrantedLeaseBase + BigInt(slot),
    };
  }

  readonly leaseName = (id: bigint): string => this.#chosenIds.get(id) ?? `${id}`;

  async call(step: CallStep, symbols: Symbols): Promise<Outcome> {
    const request = step.request(symbols);
    try {
      const body = await within(this.#send(step.call, request), callTimeoutMs, step.call);
      this.#rememberLease(step, request, body);
      return { ok: true, body: normalise(step.call, body, this.leaseName) };
    } catch (error) {
      if (error instanceof ClientError)
        return { ok: false, code: error.code, message: error.details };
      throw new Error(`${step.call} on ${this.server.system}`, { cause: error });
    }
  }

  /** An id the server chose gets the name of its slot, so that both servers' ids compare equal. */
  #rememberLease(step: CallStep, request: object, body: object): void {
    if (step.grants === undefined) return;
    const { ID: id } = body as { ID: bigint };
    const { ID: wanted } = request as { ID: bigint };
    this.#leaseIds.set(step.grants, id);
    if (wanted === 0n) this.#chosenIds.set(id, id > 0n ? `slot ${step.grants}` : `bad id ${id}`);
  }

  async #send(call: CallName, request: object): Promise<object> {
    const { kv, lease, maintenance, cluster } = this.client;
    const calls: { [Name in CallName]: (message: object) => Promise<object> } = {
      range: (message) => kv.range(message),
      put: (message) => kv.put(message),
      deleteRange: (message) => kv.deleteRange(message),
      txn: (message) => kv.txn(message),
      compact: (message) => kv.compact(message),
      leaseGrant: (message) => lease.leaseGrant(message),
      leaseRevoke: (message) => lease.leaseRevoke(message),
      leaseTimeToLive: (message) => lease.leaseTimeToLive(message),
      leaseKeepAlive: (message) => this.#keepAlive(message as CallRequests['leaseKeepAlive']),
      leaseLeases: (message) => lease.leaseLeases(message),
      hashKv: (message) => maintenance.hashKV(message),
      status: (message) => maintenance.status(message),
      memberList: (message) => cluster.memberList(message),
      memberAdd: (message) => cluster.memberAdd(message),
      memberRemove: (message) => cluster.memberRemove(message),
      memberUpdate: (message) => cluster.memberUpdate(message),
      memberPromote: (message) => cluster.memberPromote(message),
      moveLeader: (message) => maintenance.moveLeader(message),
    };
    return await calls[call](request);
  }

  /** One message, then the end of the stream: one answer, then OK. */
  async #keepAlive(message: LeaseKeepAliveRequest): Promise<object> {
    const responses: LeaseKeepAliveResponse[] = [];
    async function* requests(): AsyncIterable<LeaseKeepAliveRequest> {
      yield message;
    }
    for await (const response of this.client.lease.leaseKeepAlive(requests()))
      responses.push(response);
    const [only, ...more] = responses;
    if (only === undefined || more.length > 0)
      throw new Error(`expected one keep-alive answer, got ${responses.length}`);
    return only;
  }

  async stream(index: number): Promise<WatchStream> {
    const open = this.streams[index];
    if (open !== undefined) return open;
    while (this.streams.length <= index)
      this.streams.push(await WatchStream.open(this.client, this.server.system, this.leaseName));
    return await this.stream(index);
  }

  /** Writes the barrier key and waits until every stream has seen it. */
  async settleStreams(): Promise<void> {
    if (this.streams.length === 0) return;
    const { header } = await this.client.kv.put({ key: barrierKey });
    const revision = header?.revision ?? 0n;
    await Promise.all(this.streams.map((stream) => stream.reached(revision)));
  }

  /** Removes keys, leases, watchers and history; returns the revision everything starts from. */
  async reset(): Promise<bigint> {
    for (const stream of this.streams.splice(0)) stream.close();
    const { leases } = await this.client.lease.leaseLeases({});
    for (const { ID } of leases) await this.client.lease.leaseRevoke({ ID });
    this.#leaseIds.clear();
    this.#chosenIds.clear();
    const everything = { key: Buffer.from([0]), rangeEnd: Buffer.from([0]) };
    await this.client.kv.deleteRange(everything);
    // The tombstones end below the compacted revision, whose own treatment differs by version.
    const { header } = await this.client.kv.put({ key: barrierKey });
    const revision = header?.revision ?? 0n;
    await this.client.kv.compact({ revision, physical: true });
    return revision;
  }

  async stop(): Promise<void> {
    for (const stream of this.streams) stream.close();
    this.client.close();
    await this.server.stop('SIGKILL');
  }
}
