/** What a member serves to clients: the shipped services, by path, over simulated calls. */
import { type ServerDuplexStream, status as Status } from '@grpc/grpc-js';
import { limits } from '../../../server/limits.ts';
import type { LocalMember } from '../../../server/local-member.ts';
import type { Random } from '../../../server/ports.ts';
import { Admission } from '../../../server/rpc/admission.ts';
import { serveBatch } from '../../../server/rpc/batch.ts';
import { driveCatchUp } from '../../../server/rpc/catch-up.ts';
import { clientMethods } from '../../../server/rpc/client.ts';
import { clusterMethods } from '../../../server/rpc/cluster.ts';
import { serveKeepAlive } from '../../../server/rpc/keep-alive.ts';
import { kvMethods } from '../../../server/rpc/kv.ts';
import { leaseMethods } from '../../../server/rpc/lease.ts';
import { maintenanceMethods } from '../../../server/rpc/maintenance.ts';
import { checkMetadata, needsLeader } from '../../../server/rpc/metadata.ts';
import type { UnaryMethod } from '../../../server/rpc/method.ts';
import type { ServiceContext } from '../../../server/rpc/services.ts';
import { statusOf } from '../../../server/rpc/status.ts';
import { OpenStreams } from '../../../server/rpc/streams.ts';
import { serveWatch } from '../../../server/rpc/watch.ts';
import { Writes } from '../../../server/rpc/writes.ts';
import { Method } from '../../../server/wire/conclave/v1/batch.ts';
import type { Accept, ServerCall } from './channel.ts';
import type { Life } from './process.ts';
import { silentLogger } from './silent-logger.ts';

export type ServiceOptions = {
  readonly member: LocalMember;
  readonly life: Life;
  readonly random: Random;
  readonly progressIntervalMs: number;
};

export class Services {
  readonly streams: OpenStreams;
  readonly #unary = new Map<string, UnaryMethod>();
  readonly #batched: ReadonlyMap<number, UnaryMethod>;
  readonly #keepAlive: UnaryMethod;
  readonly #context: ServiceContext;
  readonly #options: ServiceOptions;

  constructor(options: ServiceOptions) {
    this.#options = options;
    const { member, life, random } = options;
    this.streams = new OpenStreams(member, life);
    this.#context = {
      member,
      writes: new Writes(member, new Admission(member, limits.requestBytes)),
      random,
      clock: life,
      timers: life,
      logger: silentLogger,
      maxTxnOps: limits.txnOps,
    };
    const kv = kvMethods(this.#context);
    const { keepAlive, ...lease } = leaseMethods(this.#context);
    const cluster = clusterMethods(this.#context);
    const maintenance = maintenanceMethods(this.#context);
    const client = clientMethods(this.#context);
    this.#keepAlive = keepAlive;
    for (const group of [kv, lease, cluster, maintenance]) {
      for (const method of Object.values(group)) this.#unary.set(method.path, method);
    }
    this.#batched = new Map<number, UnaryMethod>([
      [Method.RANGE, kv.range],
      [Method.PUT, kv.put],
      [Method.DELETE_RANGE, kv.deleteRange],
      [Method.TXN, kv.txn],
      [Method.COMPACT, kv.compact],
      [Method.LEASE_GRANT, lease.grant],
      [Method.LEASE_REVOKE, lease.revoke],
      [Method.LEASE_KEEP_ALIVE, keepAlive],
      [Method.LEASE_TIME_TO_LIVE, lease.timeToLive],
      [Method.LEASE_LEASES, lease.leases],
      [Method.STATUS, maintenance.status],
      [Method.MEMBER_LIST, cluster.memberList],
      [Method.CLIENT_REGISTER, client.register],
      [Method.CLIENT_FORGET, client.forget],
      [Method.PING, client.ping],
    ]);
    driveCatchUp(member, { clock: life, timers: life });
  }

  readonly accept: Accept = (path, served) => {
    // What the handlers use of grpc-js' stream is all there.
    const call = served as unknown as ServerDuplexStream<Buffer, Buffer>;
    const { streams } = this;
    try {
      checkMetadata(call.metadata, this.#options.member);
      const needs = { streams, needsLeader: needsLeader(call.metadata) };
      if (path === '/conclave.v1.Batch/Exchange') {
        serveBatch(call, {
          ...needs,
          timers: this.#options.life,
          methods: this.#batched,
          onError: () => undefined,
        });
      } else if (path === '/etcdserverpb.Watch/Watch') {
        serveWatch(call, this.#context, {
          ...needs,
          maxMessageBytes: limits.requestBytes + limits.requestOverheadBytes,
          progressIntervalMs: this.#options.progressIntervalMs,
        });
      } else if (path === this.#keepAlive.path) {
        serveKeepAlive(call, this.#keepAlive, needs);
      } else this.#serveUnary(path, served);
    } catch (error) {
      served.emit('error', statusOf(error));
    }
  };

  #serveUnary(path: string, call: ServerCall): void {
    const method = this.#unary.get(path);
    if (method === undefined) {
      call.emit('error', { code: Status.UNIMPLEMENTED, details: `${path} is not served` });
      return;
    }
    const abort = new AbortController();
    call.on('cancelled', () => abort.abort());
    call.on('data', (request: Buffer) => {
      method.invoke(request, { signal: abort.signal }).then(
        (bytes) => {
          call.write(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
          call.end();
        },
        (error: unknown) => call.emit('error', statusOf(error)),
      );
    });
  }
}
