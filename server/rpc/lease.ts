/** The Lease service. */
import { Fault, Status } from '../faults.ts';
import { limits } from '../limits.ts';
import {
  BatchDefinition,
  LeaseKeepAliveManyRequest,
  LeaseKeepAliveManyResponse,
} from '../wire/conclave/v1/batch.ts';
import {
  LeaseDefinition,
  LeaseKeepAliveRequest,
  LeaseKeepAliveResponse,
} from '../wire/etcdserverpb/rpc.ts';
import { LEASE_COST } from './admission.ts';
import { toNumber } from './convert.ts';
import { headerAt, headerNow } from './header.ts';
import { methodsOf } from './method.ts';
import type { ServiceContext } from './services.ts';
import { Rejection } from './status.ts';

/** TTL of a lease that is not there. */
const NO_SUCH_LEASE_TTL = -1n;

const secondsOf = (seconds: number): bigint => BigInt(Math.trunc(seconds));

export function leaseMethods({ member, writes, random }: ServiceContext) {
  const method = methodsOf(member, LeaseDefinition);
  const { methods } = LeaseDefinition;

  const grant = method(methods.leaseGrant, async (message, call) => {
    const ttlSeconds = toNumber(message.TTL);
    if (ttlSeconds > limits.leaseTtlSeconds) throw new Fault('lease-ttl-too-large');
    // Chosen before it is proposed: every member has to grant the same id.
    const id = message.ID === 0n ? random.id() : message.ID;
    const result = await writes.propose({ kind: 'lease-grant', id, ttlSeconds }, call, LEASE_COST);
    return {
      header: headerAt(member, result.revision),
      ID: result.id,
      TTL: secondsOf(result.ttlSeconds),
      error: '',
    };
  });

  const revoke = method(methods.leaseRevoke, async (message, call) => {
    const result = await writes.propose({ kind: 'lease-revoke', id: message.ID }, call);
    return { header: headerAt(member, result.revision) };
  });

  const timeToLive = method(methods.leaseTimeToLive, async (message, call) => {
    const lease = await member.describeLease(message.ID, message.keys, call);
    const header = headerNow(member);
    if (lease === undefined) {
      return { header, ID: message.ID, TTL: NO_SUCH_LEASE_TTL, grantedTTL: 0n, keys: [] };
    }
    return {
      header,
      ID: message.ID,
      TTL: secondsOf(lease.remainingSeconds),
      grantedTTL: secondsOf(lease.grantedSeconds),
      keys: lease.keys.map((key) => Buffer.from(key)),
    };
  });

  const leases = method(methods.leaseLeases, async (_, call) => {
    const ids = await member.leases(call);
    return { header: headerNow(member), leases: ids.map((ID) => ({ ID })) };
  });

  /** One renewal; the stream and the batch both end here. A lost lease is a TTL of 0, not an error. */
  const keepAlive = method(
    {
      name: 'LeaseKeepAlive',
      requestType: LeaseKeepAliveRequest,
      responseType: LeaseKeepAliveResponse,
    },
    async ({ ID }, call) => {
      // The revision is read first: a later one could vouch for more than the renewal does.
      const header = headerNow(member);
      const ttlSeconds = await member.renewLease(ID, call);
      return { header, ID, TTL: ttlSeconds === undefined ? 0n : secondsOf(ttlSeconds) };
    },
  );

  /** Many in one, on the batched stream only. Without a header, which would tell each the same. */
  const keepAliveMany = methodsOf(member, BatchDefinition)(
    {
      name: 'LeaseKeepAliveMany',
      requestType: LeaseKeepAliveManyRequest,
      responseType: LeaseKeepAliveManyResponse,
    },
    async ({ ids }, call) => {
      const { leasesPerRenewal } = limits;
      if (ids.length > leasesPerRenewal) {
        throw new Rejection(
          Status.INVALID_ARGUMENT,
          `${ids.length} leases are to be renewed, at most ${leasesPerRenewal} are at a time`,
        );
      }
      const ttls = await member.renewLeases(ids, call);
      return { ttlSeconds: ttls.map((ttlSeconds = 0) => secondsOf(ttlSeconds)) };
    },
  );

  return { grant, revoke, timeToLive, leases, keepAlive, keepAliveMany };
}
