/**
 * Every method that a member serves, by path, whatever carries the calls: gRPC in `server.ts`, a
 * simulator's own streams elsewhere.
 */
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
import { needsLeader, takesParts } from './metadata.ts';
import type { UnaryMethod } from './method.ts';
import type { ServedResponses, ServedStream } from './served-stream.ts';
import type { ServiceContext } from './services.ts';
import { serveSnapshot } from './snapshot.ts';
import { OpenStreams } from './streams.ts';
import { txnWhenFalse } from './txn-when-false.ts';
import { serveWatch } from './watch.ts';
import { Writes } from './writes.ts';

export type ServiceOptions = {
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
  /** @default 10 minutes, at least 100. Flag: --watch-progress-notify-interval. */
  readonly progressIntervalMs?: number;
  /** Told of every failure inside a stream that is not its end. */
  readonly report: (error: unknown, path: string) => void;
};

/** Takes what is served, once each. */
export interface Registrar {
  unary(method: UnaryMethod): void;
  bidi(path: string, serve: (call: ServedStream) => void): void;
  serverStream(path: string, serve: (call: ServedResponses) => void): void;
}

const PROGRESS_INTERVAL_MS = 10 * 60_000;
const PROGRESS_INTERVAL_MS_MIN = 100;

/** The streams returned are to be closed when the member stops. */
export function serveAll(
  options: ServiceOptions,
  registrar: Registrar,
): { readonly streams: OpenStreams } {
  const { member, random, logger, report } = options;
  const clock = options.clock ?? systemClock;
  const timers = options.timers ?? systemTimers;
  const maxRequestBytes = options.maxRequestBytes ?? limits.requestBytes;
  const streams = new OpenStreams(member, timers);
  const context: ServiceContext = {
    member,
    writes: new Writes(member, new Admission(member, maxRequestBytes)),
    random,
    clock,
    timers,
    logger,
    maxTxnOps: options.maxTxnOps ?? limits.txnOps,
  };
  const kv = kvMethods(context);
  const lease = leaseMethods(context);
  const cluster = clusterMethods(context);
  const maintenance = maintenanceMethods(context);
  const client = clientMethods(context);
  const { keepAlive, keepAliveMany, ...unaryLease } = lease;
  const groups = [kv, unaryLease, cluster, maintenance];
  for (const method of groups.flatMap((group) => Object.values(group))) registrar.unary(method);
  registrar.unary(healthCheck(member));

  registrar.bidi('/etcdserverpb.Watch/Watch', (call) => {
    refuseOnLearner(member);
    serveWatch(call, context, {
      streams,
      needsLeader: needsLeader(call.metadata),
      maxMessageBytes: maxRequestBytes + limits.requestOverheadBytes,
      progressIntervalMs: Math.max(
        options.progressIntervalMs ?? PROGRESS_INTERVAL_MS,
        PROGRESS_INTERVAL_MS_MIN,
      ),
    });
  });
  registrar.bidi(keepAlive.path, (call) => {
    refuseOnLearner(member);
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
    [Method.LEASE_KEEP_ALIVE_MANY, keepAliveMany],
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
    [Method.TXN_WHEN_FALSE, txnWhenFalse(context, streams)],
  ]);
  registrar.bidi('/conclave.v1.Batch/Exchange', (call) =>
    serveBatch(call, {
      streams,
      clock,
      timers,
      needsLeader: needsLeader(call.metadata),
      takesParts: takesParts(call.metadata),
      methods: batched,
      onError: report,
    }),
  );
  const snapshotPath = '/etcdserverpb.Maintenance/Snapshot';
  registrar.serverStream(snapshotPath, (call) => {
    void serveSnapshot(call, member, { streams, onError: (error) => report(error, snapshotPath) });
  });
  registrar.serverStream('/grpc.health.v1.Health/Watch', (call) => serveHealthWatch(call, streams));
  driveCatchUp(member, { clock, timers });
  return { streams };
}

/** What a learner has may be old, and it cannot find out. */
function refuseOnLearner(member: Member): void {
  if (member.isLearner) throw new Fault('not-supported-for-learner');
}
