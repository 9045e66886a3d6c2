/** Generators of whole sequences: what the steps are and how often each comes. */
import { bytes, interval, key, leaseId, leaseSlots, missingLeaseId, revision } from './keyspace.ts';
import type { SeededRandom } from './random.ts';
import {
  budgetTxn,
  deleteRange,
  put,
  range,
  rangeWithInvalidSort,
  readOnlyTxn,
  txn,
  txnWithInvalidCompare,
} from './requests.ts';
import type { CallStep, Step, WatchStep } from './step.ts';

const invalidArgument = 3;
/** Leases that outlive every sequence; short ones are the business of directed checks. */
const ttlsSeconds = [600n, 3_600n, 9_000_000_000n] as const;
/** A member id that is not in the cluster. */
const strangerId = 0x1234n;

export type SequenceShape = {
  readonly minSteps: number;
  readonly maxSteps: number;
  /** Share of the sequences that have watchers. */
  readonly watchShare: number;
};

export function sequence(random: SeededRandom, shape: SequenceShape): Step[] {
  const length = random.between(shape.minSteps, shape.maxSteps);
  const watching = random.chance(shape.watchShare);
  return Array.from({ length }, () => step(random, watching));
}

function step(random: SeededRandom, watching: boolean): Step {
  return random.weighted<() => Step>([
    [18, () => ({ kind: 'call', call: 'put', request: put(random) })],
    [14, () => ({ kind: 'call', call: 'range', request: range(random) })],
    [7, () => ({ kind: 'call', call: 'deleteRange', request: deleteRange(random) })],
    [14, () => ({ kind: 'call', call: 'txn', request: txn(random) })],
    [3, () => ({ kind: 'call', call: 'txn', request: readOnlyTxn(random) })],
    [0.3, () => ({ kind: 'call', call: 'txn', request: budgetTxn(random) })],
    [3, () => compaction(random)],
    [6, () => grant(random)],
    [10, () => leaseCall(random)],
    [2, () => maintenanceCall(random)],
    [1, () => clusterCall(random)],
    [0.7, () => invalidSort(random)],
    [0.4, () => invalidCompare(random)],
    [watching ? 14 : 0, () => watchStep(random)],
  ])();
}

function compaction(random: SeededRandom): CallStep {
  const at = revision(random);
  const physical = random.chance(0.3);
  return {
    kind: 'call',
    call: 'compact',
    request: (symbols) => ({ revision: at(symbols), physical }),
  };
}

function grant(random: SeededRandom): CallStep {
  const slot = random.pick(leaseSlots);
  // The last slot takes the id the server chooses; another one is negative, which is allowed.
  const wanted = slot === 3 ? 0n : slot === 2 ? -77n : BigInt(1000 + slot);
  const ttl = random.chance(0.05) ? 9_000_000_001n : random.pick(ttlsSeconds);
  return {
    kind: 'call',
    call: 'leaseGrant',
    grants: slot,
    request: () => ({ ID: wanted, TTL: ttl }),
  };
}

function leaseCall(random: SeededRandom): CallStep {
  const id = leaseId(random);
  const keys = random.chance(0.7);
  return random.weighted<() => CallStep>([
    [
      3,
      () => ({
        kind: 'call',
        call: 'leaseRevoke',
        request: (symbols) => ({ ID: id(symbols) }),
      }),
    ],
    [
      4,
      () => ({
        kind: 'call',
        call: 'leaseTimeToLive',
        request: (symbols) => ({ ID: id(symbols), keys }),
      }),
    ],
    [
      2,
      () => ({
        kind: 'call',
        call: 'leaseKeepAlive',
        request: (symbols) => ({ ID: id(symbols) }),
      }),
    ],
    [1, () => ({ kind: 'call', call: 'leaseKeepAlive', request: () => ({ ID: missingLeaseId }) })],
    [2, () => ({ kind: 'call', call: 'leaseLeases', request: () => ({}) })],
  ])();
}

function maintenanceCall(random: SeededRandom): CallStep {
  const at = revision(random);
  return random.weighted<() => CallStep>([
    [3, () => ({ kind: 'call', call: 'hashKv', request: (s) => ({ revision: at(s) }) })],
    [1, () => ({ kind: 'call', call: 'status', request: () => ({}) })],
    [1, () => ({ kind: 'call', call: 'moveLeader', request: () => ({ targetID: strangerId }) })],
  ])();
}

/** Only what cannot change the cluster: listing it, and changes that must be refused. */
function clusterCall(random: SeededRandom): CallStep {
  const linearizable = random.chance(0.5);
  return random.weighted<() => CallStep>([
    [3, () => ({ kind: 'call', call: 'memberList', request: () => ({ linearizable }) })],
    [1, () => ({ kind: 'call', call: 'memberRemove', request: () => ({ ID: strangerId }) })],
    [1, () => ({ kind: 'call', call: 'memberPromote', request: () => ({ ID: strangerId }) })],
    [
      1,
      () => ({
        kind: 'call',
        call: 'memberUpdate',
        request: () => ({ ID: strangerId, peerURLs: ['http://127.0.0.1:1'] }),
      }),
    ],
    [1, () => ({ kind: 'call', call: 'memberAdd', request: () => ({ peerURLs: ['not a url'] }) })],
    [1, () => ({ kind: 'call', call: 'memberAdd', request: () => ({ peerURLs: [] }) })],
  ])();
}

function invalidSort(random: SeededRandom): CallStep {
  return {
    kind: 'call',
    call: 'range',
    request: rangeWithInvalidSort(random),
    expected: { code: invalidArgument, message: 'etcdserver: invalid sort option' },
  };
}

/** etcd carries these out as if the number meant something; conclave says what is wrong. */
function invalidCompare(random: SeededRandom): CallStep {
  const { request, field, given } = txnWithInvalidCompare(random);
  const allowed = field === 'result' ? '0 to 3' : '0 to 4';
  return {
    kind: 'call',
    call: 'txn',
    request: () => request,
    expected: {
      code: invalidArgument,
      message: `compare.${field} is ${given}: allowed are ${allowed}`,
    },
  };
}

function watchStep(random: SeededRandom): WatchStep {
  const stream = random.below(2);
  return random.weighted<() => WatchStep>([
    [6, () => watchCreate(random, stream)],
    [
      2,
      () => {
        const watchId = BigInt(random.pick([0, 1, 2, 5, 77]));
        return {
          kind: 'watch',
          action: 'cancel',
          stream,
          historic: false,
          future: false,
          request: () => ({ requestUnion: { $case: 'cancelRequest', value: { watchId } } }),
        };
      },
    ],
    [
      1,
      () => ({
        kind: 'watch',
        action: 'progress',
        stream,
        historic: false,
        future: false,
        request: () => ({ requestUnion: { $case: 'progressRequest', value: {} } }),
      }),
    ],
  ])();
}

function watchCreate(random: SeededRandom, stream: number): WatchStep {
  const start = random.weighted<'now' | 'past' | 'compacted' | 'future'>([
    [10, 'now'],
    [4, 'past'],
    [1, 'compacted'],
    [1, 'future'],
  ]);
  const back = BigInt(random.between(0, 8));
  const ahead = BigInt(random.between(1, 4));
  const id = random.pick([0, 0, 0, 0, 1, 5]);
  const options = {
    ...(random.chance(0.5) ? interval(random) : { key: key(random), rangeEnd: bytes('') }),
    prevKv: random.chance(0.4),
    // etcd never lets go of the id of a watcher that it cancelled because of a compaction; conclave
    // does. Such watchers get ids that nobody asks for again.
    watchId: BigInt(start === 'compacted' ? random.between(1_000, 900_000) : id),
    filters: random.weighted<(0 | 1)[]>([
      [6, []],
      [1, [0]],
      [1, [1]],
      [0.5, [0, 1]],
      [0.2, [1, 1]],
    ]),
    fragment: random.chance(0.2),
    progressNotify: random.chance(0.2),
  };
  return {
    kind: 'watch',
    action: 'create',
    stream,
    historic: start === 'past' || start === 'compacted',
    future: start === 'future',
    request: (symbols) => {
      const oldest = symbols.compacted > symbols.base ? symbols.compacted : symbols.base;
      const past = symbols.current - back;
      const startRevision = {
        now: 0n,
        past: past < oldest ? oldest : past,
        compacted: symbols.compacted - 1n,
        future: symbols.current + ahead,
      }[start];
      return { requestUnion: { $case: 'createRequest', value: { ...options, startRevision } } };
    },
  };
}
