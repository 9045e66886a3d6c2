/**
 * The gRPC server: every service on one grpc-js `Server`, fed with connections by the listener.
 *
 * grpc-js sees bytes only. Messages are decoded and encoded by the methods themselves, which lets the
 * batched stream run the very same ones.
 */

import type { Duplex } from 'node:stream';
import {
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
} from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { systemClock, systemTimers } from '../clock.ts';
import { Fault } from '../faults.ts';
import { limits } from '../limits.ts';
import type { Clock, Random, Timers } from '../ports.ts';
import { Method } from '../wire/conclave/v1/batch.ts';
import { Admission } from './admission.ts';
import { serveBatch } from './batch.ts';
import { driveCatchUp } from './catch-up.ts';
import { clientMethods } from './client.ts';
import { clusterMethods } from './cluster.ts';
import { healthCheck, serveHealthWatch } from './health.ts';
import { serveKeepAlive } from './keep-alive.ts';
import { kvMethods } from './kv.ts';
import { leaseMethods } from './lease.ts';
import { maintenanceMethods } from './maintenance.ts';
import type { Member } from './member.ts';
import { checkMetadata, needsLeader } from './metadata.ts';
import type { UnaryMethod } from './method.ts';
import { type CallKind, type RpcObserver, silentObserver } from './observer.ts';
import type { ServiceContext } from './services.ts';
import { serveSnapshot } from './snapshot.ts';
import { type CallStatus, isUnexpected, statusOf } from './status.ts';
import { OpenStreams } from './streams.ts';
import { serveWatch } from './watch.ts';
import { Writes } from './writes.ts';

export type RpcOptions = {
  readonly member: Member;
  readonly random: Random;
  /** @default the system's */
  readonly clock?: Clock;
  /** @default the system's */
  readonly timers?: Timers;
  readonly logger: Logger;
  /** @default limits.requestBytes. Flag: --max-request-bytes. */
  readonly maxRequestBytes?: number;
  /** @default limits.txnOps. Flag: --max-txn-ops. */
  readonly maxTxnOps?: number;
  /** Streams of one connection. @default 10000. Flag: --max-concurrent-streams. */
  readonly maxConcurrentStreams?: number;
  /** @default 10 minutes, at least 100. Flag: --watch-progress-notify-interval. */
  readonly progressIntervalMs?: number;
  /** Server pings on idle connections. @default 2 hours and 20 seconds, as in etcd. */
  readonly keepaliveIntervalMs?: number;
  readonly keepaliveTimeoutMs?: number;
  readonly observer?: RpcObserver;
};

const MINUTE_MS = 60_000;
const PROGRESS_INTERVAL_MS_MIN = 100;
const MAX_CONCURRENT_STREAMS = 10_000;
/** Memory of one HTTP/2 session in megabytes: headers and frames that wait, not our queues. */
const SESSION_MEMORY_MB = 64;

export class RpcServer {
  readonly #server: Server;
  readonly #injector: ReturnType<Server['createConnectionInjector']>;
  readonly #streams: OpenStreams;
  readonly #member: Member;
  readonly #logger: Logger;
  readonly #observer: RpcObserver;
  #stopped: Promise<void> | undefined;

  constructor(options: RpcOptions) {
    const maxRequestBytes = options.maxRequestBytes ?? limits.requestBytes;
    const maxMessageBytes = maxRequestBytes + limits.requestOverheadBytes;
    this.#member = options.member;
    this.#logger = options.logger;
    this.#observer = options.observer ?? silentObserver;
    const clock = options.clock ?? systemClock;
    const timers = options.timers ?? systemTimers;
    this.#streams = new OpenStreams(options.member, timers);
    this.#server = new Server({
      'grpc.max_receive_message_length': maxMessageBytes,
      'grpc.max_send_message_length': -1,
      'grpc.max_concurrent_streams': options.maxConcurrentStreams ?? MAX_CONCURRENT_STREAMS,
      'grpc-node.max_session_memory': SESSION_MEMORY_MB,
      'grpc.keepalive_time_ms': options.keepaliveIntervalMs ?? 120 * MINUTE_MS,
      'grpc.keepalive_timeout_ms': options.keepaliveTimeoutMs ?? 20_000,
      'grpc.enable_channelz': 0,
    });
    this.#injector = this.#server.createConnectionInjector(ServerCredentials.createInsecure());

    const context: ServiceContext = {
      member: options.member,
      writes: new Writes(options.member, new Admission(options.member, maxRequestBytes)),
      random: options.random,
      clock,
      timers,
      logger: options.logger,
      maxTxnOps: options.maxTxnOps ?? limits.txnOps,
    };
    const kv = kvMethods(context);
    const lease = leaseMethods(context);
    const cluster = clusterMethods(context);
    const maintenance = maintenanceMethods(context);
    const client = clientMethods(context);
    const { keepAlive, ...unaryLease } = lease;
    const unary = [kv, unaryLease, cluster, maintenance].flatMap((group) => Object.values(group));
    unary.push(healthCheck(options.member));
    for (const method of unary) this.#serveUnary(method);

    const streams = this.#streams;
    this.#serveBidi('/etcdserverpb.Watch/Watch', (call) => {
      this.#refuseOnLearner();
      serveWatch(call, context, {
        streams,
        needsLeader: needsLeader(call.metadata),
        maxMessageBytes,
        progressIntervalMs: Math.max(
          options.progressIntervalMs ?? 10 * MINUTE_MS,
          PROGRESS_INTERVAL_MS_MIN,
        ),
      });
    });
    this.#serveBidi(keepAlive.path, (call) => {
      this.#refuseOnLearner();
      serveKeepAlive(call, keepAlive, { streams, needsLeader: needsLeader(call.metadata) });
    });
    const batched = new Map<number, UnaryMethod>([
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
      [Method.MEMBER_ADD, cluster.memberAdd],
      [Method.MEMBER_REMOVE, cluster.memberRemove],
      [Method.MEMBER_UPDATE, cluster.memberUpdate],
      [Method.MEMBER_PROMOTE, cluster.memberPromote],
      [Method.CLIENT_REGISTER, client.register],
      [Method.CLIENT_FORGET, client.forget],
      [Method.PING, client.ping],
    ]);
    this.#serveBidi('/conclave.v1.Batch/Exchange', (call) =>
      serveBatch(call, {
        streams,
        timers,
        needsLeader: needsLeader(call.metadata),
        methods: batched,
        onError: (error, path) => this.#report(error, path),
      }),
    );
    this.#serveServerStream('/etcdserverpb.Maintenance/Snapshot', (call) => {
      const path = '/etcdserverpb.Maintenance/Snapshot';
      void serveSnapshot(call, options.member, {
        streams,
        onError: (error) => this.#report(error, path),
      });
    });
    this.#serveServerStream('/grpc.health.v1.Health/Watch', (call) =>
      serveHealthWatch(call, streams),
    );
    driveCatchUp(options.member, { clock, timers });
  }

  /** Takes over a connection that speaks HTTP/2. */
  accept(connection: Duplex): void {
    this.#injector.injectConnection(connection);
  }

  get openStreams(): number {
    return this.#streams.size;
  }

  /**
   * Ends streams with `server stopped`, lets unary calls finish, and closes the connections; what is
   * left after `graceMs` is cut. The first call decides; later ones wait for the same end.
   */
  stop(graceMs: number): Promise<void> {
    this.#stopped ??= this.#shutDown(graceMs);
    return this.#stopped;
  }

  async #shutDown(graceMs: number): Promise<void> {
    this.#streams.close();
    const timer = setTimeout(() => this.#server.forceShutdown(), graceMs);
    await new Promise<void>((resolve) => {
      this.#server.tryShutdown(() => resolve());
    });
    clearTimeout(timer);
  }

  /** What a learner has may be old, and it cannot find out. */
  #refuseOnLearner(): void {
    if (this.#member.isLearner) throw new Fault('not-supported-for-learner');
  }

  #report(error: unknown, path: string): CallStatus {
    const status = statusOf(error);
    if (isUnexpected(status)) this.#logger.error({ err: error, path }, 'call failed unexpectedly');
    return status;
  }

  #serveUnary(method: UnaryMethod): void {
    const { path } = method;
    const calls = this.#observer.method(path, 'unary');
    const handler = (call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>) => {
      const finished = calls.started();
      let abort: AbortController | undefined;
      call.on('cancelled', () => abort?.abort());
      const context = {
        get signal(): AbortSignal {
          abort ??= new AbortController();
          if (call.cancelled) abort.abort();
          return abort.signal;
        },
      };
      const answer = async (): Promise<Buffer> => {
        checkMetadata(call.metadata, this.#member);
        const bytes = await method.invoke(call.request, context);
        return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      };
      answer().then(
        (response) => {
          finished(0);
          done(null, response);
        },
        (error: unknown) => {
          const status = this.#report(error, path);
          finished(status.code);
          done(status);
        },
      );
    };
    this.#server.register(path, handler, identity, identity, 'unary');
  }

  #serveBidi(path: string, serve: (call: ServerDuplexStream<Buffer, Buffer>) => void): void {
    const calls = this.#observer.method(path, 'bidi_stream');
    this.#server.register(
      path,
      (call: ServerDuplexStream<Buffer, Buffer>) => this.#open(call, calls, () => serve(call)),
      identity,
      identity,
      'bidi',
    );
  }

  #serveServerStream(
    path: string,
    serve: (call: ServerWritableStream<Buffer, Buffer>) => void,
  ): void {
    const calls = this.#observer.method(path, 'server_stream');
    this.#server.register(
      path,
      (call: ServerWritableStream<Buffer, Buffer>) => this.#open(call, calls, () => serve(call)),
      identity,
      identity,
      'serverStream',
    );
  }

  /** Streams are checked once, when they open. */
  #open(
    call: ServerDuplexStream<Buffer, Buffer> | ServerWritableStream<Buffer, Buffer>,
    calls: CallKind,
    serve: () => void,
  ): void {
    const finished = calls.started();
    let code = 0;
    call.on('error', (error: unknown) => {
      code = isCallStatus(error) ? error.code : statusOf(error).code;
    });
    call.on('cancelled', () => finished(code));
    try {
      checkMetadata(call.metadata, this.#member);
      serve();
    } catch (error) {
      call.emit('error', statusOf(error));
    }
  }
}

const identity = (bytes: Buffer): Buffer => bytes;

const isCallStatus = (error: unknown): error is CallStatus =>
  typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'number';
