/**
 * Brings responses into a form two servers can agree on: who answered, sizes and clocks are taken
 * out, everything else stays exact, the header's revision included.
 */
import type { ResponseHeader, StatusResponse } from '../../../server/wire/etcdserverpb/rpc.ts';
import type { CallName } from '../../support/generators/step.ts';

/** JSON-like data with bigint and bytes already turned into text. */
export type Plain = string | number | boolean | undefined | Plain[] | { [key: string]: Plain };

export type Outcome =
  | { readonly ok: true; readonly body: Plain }
  | { readonly ok: false; readonly code: number; readonly message: string };

/** Bytes as text, everything but printable ASCII escaped. */
export function printable(data: Uint8Array): string {
  const text = Buffer.from(data).toString('latin1');
  const short =
    text.length > 64 ? `${text.slice(0, 16)}…${text.length} bytes…${text.slice(-8)}` : text;
  return short.replace(
    /[^\x20-\x7e…]/g,
    (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
}

export function plain(value: unknown): Plain {
  if (typeof value === 'bigint') return `${value}n`;
  if (value instanceof Uint8Array) return printable(value);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value).filter(([, field]) => field !== undefined);
    return Object.fromEntries(entries.map(([name, field]) => [name, plain(field)]));
  }
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean')
    return value;
  return undefined;
}

function isHeader(value: object): value is ResponseHeader {
  return 'clusterId' in value && 'raftTerm' in value;
}

/** Headers keep their revision, and whether the rest was filled in at all. */
function withoutIdentity(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutIdentity);
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return value;
  if (isHeader(value))
    return {
      revision: value.revision,
      identified: value.clusterId !== 0n && value.memberId !== 0n,
      hasTerm: value.raftTerm !== 0n,
    };
  return Object.fromEntries(
    Object.entries(value).map(([name, field]) => [name, withoutIdentity(field)]),
  );
}

/** How far apart two remaining times to live may be: both servers count down while we ask. */
const ttlGranularitySeconds = 10n;

function roundTtl(ttl: bigint): bigint {
  return ttl <= 0n
    ? ttl
    : ((ttl + ttlGranularitySeconds / 2n) / ttlGranularitySeconds) * ttlGranularitySeconds;
}

type Record_ = { [key: string]: unknown };

function reshape(call: CallName, body: Record_, leaseName: (id: bigint) => string): Record_ {
  switch (call) {
    case 'leaseGrant':
    case 'leaseKeepAlive':
      return { ...body, ID: leaseName(body['ID'] as bigint) };
    case 'leaseTimeToLive':
      return {
        ...body,
        ID: leaseName(body['ID'] as bigint),
        TTL: roundTtl(body['TTL'] as bigint),
        // etcd lists them in no order.
        keys: (body['keys'] as Uint8Array[]).map(printable).sort(),
      };
    case 'leaseLeases': {
      const leases = body['leases'] as { ID: bigint }[];
      return { ...body, leases: leases.map(({ ID }) => leaseName(ID)).sort() };
    }
    case 'hashKv':
      // The hash only has to agree between members of one cluster; its revision is new in 3.6.
      return { header: body['header'], compactRevision: body['compactRevision'] };
    case 'status': {
      const status = body as unknown as StatusResponse;
      return {
        header: status.header,
        leads: status.leader === status.header?.memberId,
        hasSize: status.dbSize > 0n && status.dbSizeInUse > 0n,
        hasIndex: status.raftIndex > 0n && status.raftAppliedIndex > 0n,
        hasTerm: status.raftTerm > 0n,
        hasVersion: /^\d+\.\d+\.\d+$/.test(status.version),
        isLearner: status.isLearner,
        errors: status.errors,
      };
    }
    case 'memberList': {
      const members = body['members'] as {
        name: string;
        clientURLs: string[];
        isLearner: boolean;
        ID: bigint;
      }[];
      return {
        header: body['header'],
        members: members.map((member) => ({
          name: member.name,
          clientUrls: member.clientURLs.length,
          isLearner: member.isLearner,
          hasId: member.ID !== 0n,
        })),
      };
    }
    default:
      return body;
  }
}

/** `leaseName` turns the ids a server chose itself into the slot's name. */
export function normalise(call: CallName, body: object, leaseName: (id: bigint) => string): Plain {
  const named = renameLeases(reshape(call, body as Record_, leaseName), leaseName);
  return plain(withoutIdentity(named));
}

/** Key-values carry the lease they are attached to. */
export function renameLeases(value: unknown, leaseName: (id: bigint) => string): unknown {
  if (Array.isArray(value)) return value.map((item) => renameLeases(item, leaseName));
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, field]) => [
      name,
      name === 'lease' && typeof field === 'bigint'
        ? leaseName(field)
        : renameLeases(field, leaseName),
    ]),
  );
}

export function watchBody(body: object, leaseName: (id: bigint) => string): Plain {
  return plain(withoutIdentity(renameLeases(body, leaseName)));
}

/** Where two bodies first differ, as a path with both values; undefined when they are equal. */
export function firstDifference(
  reference: Plain,
  subject: Plain,
  path = '',
): { path: string; reference: Plain; subject: Plain } | undefined {
  if (
    typeof reference === 'object' &&
    typeof subject === 'object' &&
    Array.isArray(reference) === Array.isArray(subject)
  ) {
    const names = new Set([...Object.keys(reference), ...Object.keys(subject)]);
    for (const name of names) {
      const left = (reference as { [key: string]: Plain })[name];
      const right = (subject as { [key: string]: Plain })[name];
      const found = firstDifference(left, right, path === '' ? name : `${path}.${name}`);
      if (found !== undefined) return found;
    }
    return undefined;
  }
  return Object.is(reference, subject) ? undefined : { path, reference, subject };
}
