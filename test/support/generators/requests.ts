/** Generators of single requests of the KV service, with every option the wire offers. */
import type {
  Compare,
  DeepPartial,
  DeleteRangeRequest,
  PutRequest,
  RangeRequest,
  RequestOp,
  TxnRequest,
} from '../../../server/wire/etcdserverpb/rpc.ts';
import {
  bytes,
  enumeration,
  interval,
  key,
  keyOrEmpty,
  leaseId,
  revision,
  value,
} from './keyspace.ts';
import type { SeededRandom } from './random.ts';
import type { Symbols } from './step.ts';

type Build<T> = (symbols: Symbols) => DeepPartial<T>;

/** More than the 128 operations a branch may have. */
const tooManyOperations = 129;

export function range(random: SeededRandom): Build<RangeRequest> {
  const span = interval(random);
  const atRevision = random.chance(0.35) ? revision(random) : () => 0n;
  const bound = (probability: number): ((symbols: Symbols) => bigint) =>
    random.chance(probability) ? revision(random) : () => 0n;
  const minMod = bound(0.1);
  const maxMod = bound(0.1);
  const minCreate = bound(0.1);
  const maxCreate = bound(0.1);
  const options = {
    ...span,
    limit: random.chance(0.4) ? BigInt(random.between(-1, 4)) : 0n,
    sortOrder: enumeration(random, [0, 0, 1, 2]),
    sortTarget: enumeration(random, [0, 0, 1, 2, 3, 4]),
    serializable: random.chance(0.3),
    keysOnly: random.chance(0.15),
    countOnly: random.chance(0.1),
  };
  return (symbols) => ({
    ...options,
    revision: atRevision(symbols),
    minModRevision: minMod(symbols),
    maxModRevision: maxMod(symbols),
    minCreateRevision: minCreate(symbols),
    maxCreateRevision: maxCreate(symbols),
  });
}

/** A valid range but for the sort option, which etcd before 3.6 does not survive. */
export function rangeWithInvalidSort(random: SeededRandom): Build<RangeRequest> {
  const bad = random.chance(0.5)
    ? { sortOrder: enumeration(random, [0], 1) }
    : { sortOrder: enumeration(random, [1, 2]), sortTarget: enumeration(random, [0], 1) };
  const request = { key: key(random), rangeEnd: bytes('\0'), ...bad };
  return () => request;
}

export function put(random: SeededRandom): Build<PutRequest> {
  const lease = random.chance(0.35) ? leaseId(random) : () => 0n;
  const ignoreValue = random.chance(0.1);
  const ignoreLease = random.chance(0.1);
  const options = {
    key: keyOrEmpty(random),
    // Both "ignore and given" and "ignore and absent" are to be seen.
    value: ignoreValue && random.chance(0.7) ? bytes('') : value(random),
    prevKv: random.chance(0.3),
    ignoreValue,
    ignoreLease,
  };
  const withoutLease = ignoreLease && random.chance(0.7);
  return (symbols) => ({ ...options, lease: withoutLease ? 0n : lease(symbols) });
}

export function deleteRange(random: SeededRandom): Build<DeleteRangeRequest> {
  const request = { ...interval(random), prevKv: random.chance(0.3) };
  return () => request;
}

export function compare(random: SeededRandom): Build<Compare> {
  const lease = leaseId(random);
  const near = revision(random);
  const number = BigInt(random.between(0, 3));
  const someValue = value(random);
  const unions = {
    version: () => ({ $case: 'version', value: number }) as const,
    create: (symbols: Symbols) =>
      ({ $case: 'createRevision', value: number === 0n ? 0n : near(symbols) }) as const,
    mod: (symbols: Symbols) =>
      ({ $case: 'modRevision', value: number === 0n ? 0n : near(symbols) }) as const,
    value: () => ({ $case: 'value', value: someValue }) as const,
    lease: (symbols: Symbols) => ({ $case: 'lease', value: lease(symbols) }) as const,
  };
  const target = enumeration(random, [0, 1, 2, 3, 4]);
  const matching = [unions.version, unions.create, unions.mod, unions.value, unions.lease][target];
  // Target and union are sent apart, so they can disagree, or the union can be missing.
  const union = random.weighted<((symbols: Symbols) => Compare['targetUnion']) | undefined>([
    [20, matching ?? unions.version],
    [0.4, unions.version],
    [0.4, unions.value],
    [0.4, unions.lease],
    [1, undefined],
  ]);
  const options = {
    key: keyOrEmpty(random),
    rangeEnd: random.chance(0.2) ? random.pick([key(random), bytes('\0')]) : bytes(''),
    result: enumeration(random, [0, 0, 1, 2, 3]),
    target,
  };
  return (symbols) => {
    const targetUnion = union?.(symbols);
    return targetUnion === undefined ? options : { ...options, targetUnion };
  };
}

/** A transaction whose only fault is a number outside of an enum, and which field has it. */
export function txnWithInvalidCompare(random: SeededRandom): {
  readonly request: DeepPartial<TxnRequest>;
  readonly field: 'result' | 'target';
  readonly given: number;
} {
  const field = random.chance(0.5) ? 'result' : 'target';
  const given = enumeration(random, [0], 1);
  return { request: { compare: [{ key: key(random), [field]: given }] }, field, given };
}

function operation(random: SeededRandom, depth: number): Build<RequestOp> {
  return random.weighted<() => Build<RequestOp>>([
    [
      8,
      () => {
        const build = put(random);
        return (symbols) => ({ request: { $case: 'requestPut', value: build(symbols) } });
      },
    ],
    [
      6,
      () => {
        const build = range(random);
        return (symbols) => ({ request: { $case: 'requestRange', value: build(symbols) } });
      },
    ],
    [
      4,
      () => {
        const build = deleteRange(random);
        return (symbols) => ({ request: { $case: 'requestDeleteRange', value: build(symbols) } });
      },
    ],
    [
      depth > 0 ? 4 : 0,
      () => {
        const build = branches(random, depth - 1);
        return (symbols) => ({ request: { $case: 'requestTxn', value: build(symbols) } });
      },
    ],
    [0.3, () => () => ({})],
  ])();
}

function operations(random: SeededRandom, depth: number): Build<RequestOp>[] {
  const count = random.chance(0.01) ? tooManyOperations : random.below(4);
  return Array.from({ length: count }, () => operation(random, depth));
}

/** A whole transaction tree that the installed etcd survives. */
export function txn(random: SeededRandom): Build<TxnRequest> {
  const build = branches(random, 2);
  return (symbols) => {
    const request = build(symbols);
    return deletesAnything(request) ? withoutIgnoring(request) : request;
  };
}

/**
 * A put that keeps a value which the same transaction deletes before passes etcd's checks, which
 * look at the state before the transaction, and then makes every etcd member panic while applying.
 */
function deletesAnything(request: DeepPartial<TxnRequest>): boolean {
  return [...(request.success ?? []), ...(request.failure ?? [])].some(
    ({ request: op }) =>
      op?.$case === 'requestDeleteRange' ||
      (op?.$case === 'requestTxn' && deletesAnything(op.value ?? {})),
  );
}

function withoutIgnoring(request: DeepPartial<TxnRequest>): DeepPartial<TxnRequest> {
  const rewrite = (op: DeepPartial<RequestOp>): DeepPartial<RequestOp> => {
    if (op.request?.$case === 'requestPut')
      return {
        request: {
          $case: 'requestPut',
          value: { ...op.request.value, ignoreValue: false, ignoreLease: false },
        },
      };
    if (op.request?.$case === 'requestTxn')
      return { request: { $case: 'requestTxn', value: withoutIgnoring(op.request.value ?? {}) } };
    return op;
  };
  return {
    ...request,
    success: (request.success ?? []).map(rewrite),
    failure: (request.failure ?? []).map(rewrite),
  };
}

function branches(random: SeededRandom, depth: number): Build<TxnRequest> {
  const compares = Array.from({ length: random.below(3) }, () => compare(random));
  const success = operations(random, depth);
  const failure = operations(random, depth);
  return (symbols) => ({
    compare: compares.map((build) => build(symbols)),
    success: success.map((build) => build(symbols)),
    failure: failure.map((build) => build(symbols)),
  });
}

/** A transaction of reads alone: it is answered without the log when it holds no nested one. */
export function readOnlyTxn(random: SeededRandom): Build<TxnRequest> {
  const compares = Array.from({ length: random.below(3) }, () => compare(random));
  const reads = Array.from({ length: random.below(4) }, () => range(random));
  return (symbols) => ({
    compare: compares.map((build) => build(symbols)),
    success: reads.map((build) => ({
      request: { $case: 'requestRange' as const, value: build(symbols) },
    })),
    failure: reads.map((build) => ({
      request: { $case: 'requestRange' as const, value: build(symbols) },
    })),
  });
}

/** A transaction near the limit, nested, where the budget of operations counts. */
export function budgetTxn(random: SeededRandom): Build<TxnRequest> {
  const outer = random.pick([1, 64, 120, 127, 128]);
  const inner = random.pick([1, 7, 8, 64, 65, 127, 128]);
  const puts = (count: number, prefix: string): DeepPartial<RequestOp>[] =>
    Array.from({ length: count }, (_, index) => ({
      request: {
        $case: 'requestRange' as const,
        value: { key: bytes(`${prefix}${index}`), countOnly: true },
      },
    }));
  const nested: DeepPartial<RequestOp> = {
    request: { $case: 'requestTxn', value: { success: puts(inner, 'i') } },
  };
  return () => ({ success: [...puts(outer - 1, 'o'), nested] });
}
