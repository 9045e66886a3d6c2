/**
 * The reference: etcd's semantics in the plainest code, on lists of everything that ever happened.
 * Keys and values are strings of one character a byte, so that comparing them compares bytes.
 */
import type { Command } from '../../server/command.ts';
import type {
  Compare,
  KeySpan,
  Operation,
  PutRequest,
  RangeRequest,
  TxnRequest,
} from '../../server/mvcc/types.ts';
import { text } from '../support/plain.ts';

type Version = {
  key: string;
  value: string;
  revision: number;
  createRevision: number;
  version: number;
  lease: bigint;
  deleted: boolean;
};
type Kv = {
  key: string;
  value: string;
  createRevision: number;
  modRevision: number;
  version: number;
  lease: bigint;
};
export type ModelEvent = { kind: 'put' | 'delete'; kv: Kv };
type Plain = Record<string, unknown>;

class Refused extends Error {
  readonly code: string;
  constructor(code: string) {
    super(code);
    this.code = code;
  }
}

export class Model {
  revision = 1;
  compactRevision = -1;
  /** Every version of every key, in order; compaction removes nothing here. */
  versions: Version[] = [];
  leases = new Map<bigint, number>();
  alarms: { memberId: bigint; alarm: string }[] = [];
  members = new Map<bigint, Plain>();
  readonly minLeaseTtlSeconds: number;

  constructor(minLeaseTtlSeconds: number) {
    this.minLeaseTtlSeconds = minLeaseTtlSeconds;
  }

  apply(term: number, command: Command): { result: Plain; events: ModelEvent[] } {
    const saved = { revision: this.revision, versions: [...this.versions] };
    const first = this.versions.length;
    try {
      const result = this.#execute(term, command);
      const made = this.versions.slice(first);
      if (made.length > 0) this.revision += 1;
      return { result, events: made.map(toEvent) };
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.revision = saved.revision;
      this.versions = saved.versions;
      return { result: this.#fault(error.code), events: [] };
    }
  }

  #fault(code: string): Plain {
    return { kind: 'fault', code, revision: this.revision };
  }

  #execute(term: number, command: Command): Plain {
    const at = this.revision;
    switch (command.kind) {
      case 'put':
        this.#checkLease(command);
        this.#checkKept(command);
        return this.#put(command, at);
      case 'delete-range':
        return this.#delete(command, command.prevKv, at);
      case 'txn': {
        const chosen = this.#choose(command);
        this.#check(chosen);
        const result = this.#run(chosen, at);
        return { ...result, revision: this.#seen(at) };
      }
      case 'compact':
        if (command.revision <= this.compactRevision) throw new Refused('compacted');
        if (command.revision > this.revision) throw new Refused('future-revision');
        this.compactRevision = command.revision;
        return { kind: 'compact', revision: at };
      case 'lease-grant': {
        const { id } = command;
        if (command.ttlSeconds > 9_000_000_000) throw new Refused('lease-ttl-too-large');
        if (id === 0n) throw new Refused('lease-not-found');
        if (this.leases.has(id)) throw new Refused('lease-exists');
        const ttlSeconds = Math.max(command.ttlSeconds, this.minLeaseTtlSeconds);
        this.leases.set(id, ttlSeconds);
        return { kind: 'lease-grant', id, ttlSeconds, revision: at };
      }
      case 'lease-revoke':
        if (!this.leases.has(command.id)) throw new Refused('lease-not-found');
        this.#endLease(command.id, at);
        return { kind: 'lease-revoke', revision: this.#seen(at) };
      case 'lease-expire':
        if (command.term === term && this.leases.has(command.id)) this.#endLease(command.id, at);
        return { kind: 'lease-expire', revision: this.#seen(at) };
      case 'alarm': {
        const { memberId, alarm } = command;
        this.alarms = this.alarms.filter((a) => a.memberId !== memberId || a.alarm !== alarm);
        if (command.action === 'activate') this.alarms.push({ memberId, alarm });
        return { kind: 'alarm', revision: at };
      }
      case 'member': {
        const { memberId: id, name, peerUrls, clientUrls } = command;
        const kept = { isLearner: false, incarnation: 0n };
        this.members.set(id, { id, name, peerUrls, clientUrls, ...kept });
        return { kind: 'member', revision: at };
      }
      default:
        throw new Error(`${command.kind} is no business of this model`);
    }
  }

  /** What a read in the middle of an entry, begun at revision `at`, sees as the newest revision. */
  #seen(at: number): number {
    return this.versions.some((version) => version.revision > at) ? at + 1 : at;
  }

  /** The newest version of every key at a revision, tombstones left out, in key order. */
  keysAt(revision: number): Version[] {
    const newest = new Map<string, Version>();
    for (const version of this.versions) {
      if (version.revision <= revision) newest.set(version.key, version);
    }
    return [...newest.values()]
      .filter((version) => !version.deleted)
      .sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  keysIn(span: KeySpan, revision: number): Version[] {
    return this.keysAt(revision).filter(({ key }) => isIn(key, span));
  }

  #find(key: string): Version | undefined {
    return this.keysAt(this.revision + 1).find((version) => version.key === key);
  }

  #checkLease({ lease }: PutRequest): void {
    if (lease !== 0n && !this.leases.has(lease)) throw new Refused('lease-not-found');
  }

  #checkKept(request: PutRequest): void {
    if (!request.ignoreValue && !request.ignoreLease) return;
    if (this.#find(text(request.key)) === undefined) throw new Refused('key-not-found');
  }

  #put(request: PutRequest, at: number): Plain {
    const key = text(request.key);
    const before = this.#find(key);
    if (before === undefined && (request.ignoreValue || request.ignoreLease)) {
      throw new Refused('key-not-found');
    }
    this.versions.push({
      key,
      value: request.ignoreValue && before ? before.value : text(request.value),
      revision: at + 1,
      createRevision: before?.createRevision ?? at + 1,
      version: (before?.version ?? 0) + 1,
      lease: request.ignoreLease && before ? before.lease : request.lease,
      deleted: false,
    });
    return {
      kind: 'put',
      prevKv: request.prevKv && before ? toKv(before) : undefined,
      revision: at + 1,
    };
  }

  #delete(span: KeySpan, prevKv: boolean, at: number): Plain {
    const keys = this.keysIn(span, this.revision + 1);
    for (const { key } of keys) this.#tombstone(key, at);
    return {
      kind: 'delete-range',
      deleted: keys.length,
      prevKvs: prevKv ? keys.map(toKv) : [],
      revision: this.#seen(at),
    };
  }

  #tombstone(key: string, at: number): void {
    this.versions.push({
      key,
      value: '',
      revision: at + 1,
      createRevision: 0,
      version: 0,
      lease: 0n,
      deleted: true,
    });
  }

  #endLease(id: bigint, at: number): void {
    this.leases.delete(id);
    for (const { key, lease } of this.keysAt(this.revision)) {
      if (lease === id) this.#tombstone(key, at);
    }
  }

  leaseKeys(id: bigint): string[] {
    return this.keysAt(this.revision)
      .filter(({ lease }) => lease === id)
      .map(({ key }) => key);
  }

  #choose(request: TxnRequest): Chosen {
    const succeeded = request.compare.every((compare) => this.#holds(compare));
    const operations = succeeded ? request.success : request.failure;
    return {
      succeeded,
      operations: operations.map((operation) =>
        operation.kind === 'txn' ? this.#choose(operation) : operation,
      ),
    };
  }

  #holds(compare: Compare): boolean {
    const keys = this.keysIn(compare, this.revision);
    if (keys.length === 0) {
      if (compare.target === 'value') return false;
      return holdsFor(compare, {
        revision: 0,
        createRevision: 0,
        version: 0,
        lease: 0n,
        value: '',
      });
    }
    return keys.every((version) => holdsFor(compare, version));
  }

  /** All puts before all ranges, as etcd does; a put's key before its lease. */
  #check(chosen: Chosen): void {
    const operations = flatten(chosen);
    for (const operation of operations) {
      if (operation.kind !== 'put') continue;
      this.#checkKept(operation);
      this.#checkLease(operation);
    }
    for (const operation of operations) {
      if (operation.kind !== 'range') continue;
      const { revision } = operation;
      if (revision > this.revision) throw new Refused('future-revision');
      if (revision !== 0 && revision < this.compactRevision) throw new Refused('compacted');
    }
  }

  #run(chosen: Chosen, at: number): Plain {
    const responses = chosen.operations.map((operation): Plain => {
      if ('succeeded' in operation) return this.#run(operation, at);
      switch (operation.kind) {
        case 'put':
          return this.#put(operation, at);
        case 'delete-range':
          return this.#delete(operation, operation.prevKv, at);
        case 'range':
          return this.range(operation, this.#seen(at));
        default:
          throw new Error('a nested transaction was chosen before');
      }
    });
    return { kind: 'txn', succeeded: chosen.succeeded, responses, revision: 0 };
  }

  readTxn(request: TxnRequest): Plain {
    try {
      const chosen = this.#choose(request);
      this.#check(chosen);
      return { ...this.#run(chosen, this.revision), revision: this.revision };
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      return this.#fault(error.code);
    }
  }

  range(request: RangeRequest, newest = this.revision): Plain {
    if (request.revision > newest) return this.#fault('future-revision');
    const at = request.revision <= 0 ? newest : request.revision;
    if (at < this.compactRevision) return this.#fault('compacted');
    const all = this.keysIn(request, at);
    let kvs = all.map(toKv);
    const filtered =
      request.minModRevision !== 0 ||
      request.maxModRevision !== 0 ||
      request.minCreateRevision !== 0 ||
      request.maxCreateRevision !== 0;
    if (request.maxModRevision !== 0) {
      kvs = kvs.filter((kv) => kv.modRevision <= request.maxModRevision);
    }
    if (request.minModRevision !== 0) {
      kvs = kvs.filter((kv) => kv.modRevision >= request.minModRevision);
    }
    if (request.maxCreateRevision !== 0) {
      kvs = kvs.filter((kv) => kv.createRevision <= request.maxCreateRevision);
    }
    if (request.minCreateRevision !== 0) {
      kvs = kvs.filter((kv) => kv.createRevision >= request.minCreateRevision);
    }
    const { limit, sortOrder, sortTarget } = request;
    // The quirk: without a sort order the cut comes before the sort.
    if (sortOrder === 'none' && !filtered && limit > 0) kvs = kvs.slice(0, limit + 1);
    const sign = sortOrder === 'descend' ? -1 : 1;
    const by = {
      key: (kv: Kv) => kv.key,
      version: (kv: Kv) => kv.version,
      create: (kv: Kv) => kv.createRevision,
      mod: (kv: Kv) => kv.modRevision,
      value: (kv: Kv) => kv.value,
    }[sortTarget];
    kvs = [...kvs].sort((a, b) => (by(a) < by(b) ? -sign : by(a) > by(b) ? sign : 0));
    const more = !request.countOnly && limit > 0 && kvs.length > limit;
    if (more) kvs = kvs.slice(0, limit);
    if (request.keysOnly) kvs = kvs.map((kv) => ({ ...kv, value: '' }));
    if (request.countOnly) kvs = [];
    const stopsEarly =
      request.uncounted && !request.countOnly && !filtered && limit > 0 && isInKeyOrder(request);
    const count = stopsEarly ? Math.min(all.length, limit + 1) : all.length;
    return { kind: 'range', kvs, more, count, revision: newest };
  }

  history(from: number): { revision: number; events: ModelEvent[] }[] {
    const revisions: { revision: number; events: ModelEvent[] }[] = [];
    for (const version of this.versions) {
      if (version.revision < from) continue;
      const last = revisions.at(-1);
      if (last?.revision === version.revision) last.events.push(toEvent(version));
      else revisions.push({ revision: version.revision, events: [toEvent(version)] });
    }
    return revisions;
  }

  previous({ kv }: ModelEvent): Kv | undefined {
    if (kv.version === 1 || kv.modRevision - 1 < this.compactRevision) return undefined;
    const before = this.keysAt(kv.modRevision - 1).find(({ key }) => key === kv.key);
    return before && toKv(before);
  }
}

type Chosen = {
  succeeded: boolean;
  operations: (Exclude<Operation, TxnRequest> | Chosen | TxnRequest)[];
};

/** What would run, in order. */
function flatten({ operations }: Chosen): Exclude<Operation, TxnRequest>[] {
  return operations.flatMap((operation) => {
    if ('succeeded' in operation) return flatten(operation);
    return operation.kind === 'txn' ? [] : [operation];
  });
}

const isInKeyOrder = ({ sortOrder, sortTarget }: RangeRequest): boolean =>
  sortOrder === 'none' || (sortOrder === 'ascend' && sortTarget === 'key');

function isIn(key: string, { key: first, rangeEnd }: KeySpan): boolean {
  const end = text(rangeEnd);
  if (end === '') return key === text(first);
  return key >= text(first) && (end === '\0' || key < end);
}

function holdsFor(
  compare: Compare,
  version: Pick<Version, 'revision' | 'createRevision' | 'version' | 'lease' | 'value'>,
): boolean {
  const [is, wanted] = {
    version: () => [version.version, compare.operand],
    create: () => [version.createRevision, compare.operand],
    mod: () => [version.revision, compare.operand],
    lease: () => [version.lease, compare.operand],
    value: () => [version.value, text(compare.operand as Uint8Array)],
  }[compare.target]() as [number, number];
  switch (compare.result) {
    case 'equal':
      return is === wanted;
    case 'not-equal':
      return is !== wanted;
    case 'greater':
      return is > wanted;
    case 'less':
      return is < wanted;
  }
}

const toKv = (version: Version): Kv => ({
  key: version.key,
  value: version.value,
  createRevision: version.createRevision,
  modRevision: version.revision,
  version: version.version,
  lease: version.lease,
});

const toEvent = (version: Version): ModelEvent => ({
  kind: version.deleted ? 'delete' : 'put',
  kv: toKv(version),
});
