/**
 * Put, delete and transactions, in the order that etcd documents: all compares of the whole tree
 * on the state before; then everything that can refuse; then execution, which cannot fail. So a
 * refused transaction has no effect, and an executed one has all of its effect in one revision.
 */
import { assert } from '../assert.ts';
import type { FaultCode } from '../faults.ts';
import { limits } from '../limits.ts';
import { compareHolds } from './compare.ts';
import type { CreationOrders } from './creation-orders.ts';
import type { Draft, ForwardReader } from './draft.ts';
import { currentBounds, currentKey, userKeyOfCurrent } from './keys.ts';
import { type Horizon, readRange, revisionFault, runToEnd } from './range.ts';
import { type Current, decodeCurrent } from './records.ts';
import { slices } from './slices.ts';
import { deleteKey, putKey, readCurrent, readKeyValue, readStored } from './store.ts';
import type {
  Bytes,
  DeleteRangeRequest,
  DeleteRangeResult,
  FaultResult,
  KeyValue,
  LeaseId,
  Operation,
  OperationResult,
  PutRequest,
  PutResult,
  Revision,
  TxnRequest,
  TxnResult,
} from './types.ts';
import { NO_LEASE } from './types.ts';
import { isReadOnly } from './validate.ts';

export type LeaseExists = { has(id: LeaseId): boolean };

/** Why a put cannot be done on the state as it is. A put in a transaction is checked in the other order. */
export function putFault(
  reader: ForwardReader,
  leases: LeaseExists,
  request: PutRequest,
): FaultCode | undefined {
  return leaseFault(leases, request) ?? keepFault(reader, request);
}

function leaseFault(leases: LeaseExists, { lease }: PutRequest): FaultCode | undefined {
  return lease !== NO_LEASE && !leases.has(lease) ? 'lease-not-found' : undefined;
}

/** A put cannot keep the value or the lease of a key that is not there. */
function keepFault(reader: ForwardReader, request: PutRequest): FaultCode | undefined {
  if (!request.ignoreValue && !request.ignoreLease) return undefined;
  return readCurrent(reader, request.key) === undefined ? 'key-not-found' : undefined;
}

/** Executes a put. Refuses only to keep what is not there, which `putFault` tells in advance. */
export function executePut(draft: Draft, request: PutRequest): PutResult | FaultCode {
  const { key } = request;
  const stored = currentKey(key);
  const before = readStored(draft, stored);
  if ((request.ignoreValue || request.ignoreLease) && before === undefined) {
    return 'key-not-found';
  }
  const previous = request.prevKv || request.ignoreValue ? readKeyValue(draft, before) : undefined;
  const value = request.ignoreValue && previous !== undefined ? previous.value : request.value;
  const lease = request.ignoreLease && before !== undefined ? before.lease : request.lease;
  putKey(draft, { key, stored }, value, lease, before);
  return {
    kind: 'put',
    prevKv: request.prevKv ? previous : undefined,
    revision: draft.nextRevision,
  };
}

export function executeDeleteRange(draft: Draft, request: DeleteRangeRequest): DeleteRangeResult {
  const prevKvs: KeyValue[] = [];
  const remove = (key: Bytes, current: Current | undefined): void => {
    if (current === undefined) return;
    if (request.prevKv) {
      const previous = readKeyValue(draft, current);
      if (previous !== undefined) prevKvs.push(previous);
    }
    deleteKey(draft, key, current);
  };

  const eventsBefore = draft.events.length;
  if (request.rangeEnd.length === 0) {
    remove(request.key, readCurrent(draft, request.key));
  } else {
    const { start, end } = currentBounds(request);
    for (const slice of slices(draft, start, end)) {
      for (const [stored, data] of slice) remove(userKeyOfCurrent(stored), decodeCurrent(data));
    }
  }
  const deleted = draft.events.length - eventsBefore;
  return { kind: 'delete-range', deleted, prevKvs, revision: draft.revision };
}

/** A transaction with its branches chosen: what will execute. */
type Plan = {
  readonly succeeded: boolean;
  readonly operations: readonly Operation[];
  /** The plans of the nested transactions among the operations, in order. */
  readonly nested: readonly Plan[];
};

/** Chooses the branches of the whole tree. Reads the state before the transaction only. */
function choose(reader: ForwardReader, request: TxnRequest): Plan {
  let succeeded = true;
  for (const compare of request.compare) {
    if (compareHolds(reader, compare)) continue;
    succeeded = false;
    break;
  }
  const operations = succeeded ? request.success : request.failure;
  let nested: Plan[] = NO_PLANS;
  for (const operation of operations) {
    if (operation.kind !== 'txn') continue;
    if (nested === NO_PLANS) nested = [];
    nested.push(choose(reader, operation));
  }
  return { succeeded, operations, nested };
}

const NO_PLANS: Plan[] = [];

/**
 * The first reason why a plan cannot be executed, in etcd's order: all puts of the chosen branches
 * before all ranges.
 */
function planFault(
  reader: ForwardReader,
  leases: LeaseExists,
  horizon: Horizon,
  plan: Plan,
): FaultCode | undefined {
  return putsFault(reader, leases, plan) ?? rangesFault(horizon, plan);
}

function putsFault(reader: ForwardReader, leases: LeaseExists, plan: Plan): FaultCode | undefined {
  return firstFault(
    plan,
    (operation) =>
      operation.kind === 'put'
        ? (keepFault(reader, operation) ?? leaseFault(leases, operation))
        : undefined,
    (inner) => putsFault(reader, leases, inner),
  );
}

function rangesFault(horizon: Horizon, plan: Plan): FaultCode | undefined {
  return firstFault(
    plan,
    (operation) =>
      operation.kind === 'range' ? rangeFault(operation.revision, horizon) : undefined,
    (inner) => rangesFault(horizon, inner),
  );
}

function firstFault(
  { operations, nested }: Plan,
  ofOperation: (operation: Operation) => FaultCode | undefined,
  ofPlan: (plan: Plan) => FaultCode | undefined,
): FaultCode | undefined {
  let nextNested = 0;
  for (const operation of operations) {
    const inner = operation.kind === 'txn' ? nested[nextNested++] : undefined;
    const fault = inner === undefined ? ofOperation(operation) : ofPlan(inner);
    if (fault !== undefined) return fault;
  }
  return undefined;
}

/**
 * Inside a transaction, unlike outside, etcd compares a negative revision as it is: it is
 * "compacted" after any compaction.
 */
function rangeFault(revision: number, horizon: Horizon): FaultCode | undefined {
  if (revision < 0 && revision < horizon.compactRevision) return 'compacted';
  return revisionFault(revision, horizon);
}

/** How many operations run: one alone never reads what it wrote. */
function operationCount({ operations, nested }: Plan): number {
  let count = operations.length - nested.length;
  for (const inner of nested) count += operationCount(inner);
  return count;
}

/** A transaction that was compared and checked, ready to execute. */
export type PreparedTxn = { readonly plan: Plan; readonly readsOwnWrites: boolean };

/** Compares and checks on the state before; a fault means that nothing may execute. */
export function prepareTxn(
  reader: ForwardReader,
  leases: LeaseExists,
  horizon: Horizon,
  request: TxnRequest,
): PreparedTxn | FaultCode {
  const chosen = choose(reader, request);
  const fault = planFault(reader, leases, horizon, chosen);
  return fault ?? { plan: chosen, readsOwnWrites: operationCount(chosen) > 1 };
}

/**
 * Executes on a draft over the state that the transaction was prepared on. The one refusal left is
 * a put that keeps the value or lease of a key that the transaction itself deleted before; the
 * caller drops the draft then.
 */
export function executeTxn(
  draft: Draft,
  compactRevision: Revision,
  { plan }: PreparedTxn,
): TxnResult | FaultCode {
  const result = execute(draft, compactRevision, plan);
  return typeof result === 'string' ? result : { ...result, revision: draft.revision };
}

function execute(draft: Draft, compactRevision: Revision, plan: Plan): TxnResult | FaultCode {
  const responses: OperationResult[] = [];
  let nextNested = 0;
  for (const operation of plan.operations) {
    let result: OperationResult | FaultResult | FaultCode;
    switch (operation.kind) {
      case 'range': {
        const horizon = { revision: draft.revision, compactRevision };
        result = runToEnd(readRange(draft, operation, horizon, draft.creations(operation)));
        break;
      }
      case 'put':
        result = executePut(draft, operation);
        break;
      case 'delete-range':
        result = executeDeleteRange(draft, operation);
        break;
      case 'txn': {
        const inner = plan.nested[nextNested++];
        assert(inner !== undefined, 'a plan holds one plan for each nested transaction');
        result = execute(draft, compactRevision, inner);
        break;
      }
    }
    if (typeof result === 'string') return result;
    if (result.kind === 'fault') return result.code;
    responses.push(result);
  }
  return { kind: 'txn', succeeded: plan.succeeded, responses, revision: 0 };
}

/**
 * A transaction without writes, on the state as it is at its first step. Pauses as a range does, with
 * everything pinned to the revision of that step.
 */
export function* readTxn(
  reader: ForwardReader,
  horizon: Horizon,
  request: TxnRequest,
  orders: CreationOrders,
): Generator<void, TxnResult | FaultCode> {
  assert(isReadOnly(request), 'a transaction outside the log writes nothing');
  for (;;) {
    const prepared = prepareTxn(reader, NO_LEASES, horizon, request);
    if (typeof prepared === 'string') return prepared;
    const { revision } = horizon;
    const read: PlanRead = { reader, horizon, at: revision, orders, keys: 0 };
    const result = yield* readPlan(read, prepared.plan);
    if (typeof result !== 'string') return { ...result, revision };
    // A compaction passed what was the newest revision: there is a newer one.
    if (result !== 'compacted') return result;
  }
}

/** What a transaction and those nested in it share. */
type PlanRead = {
  readonly reader: ForwardReader;
  readonly horizon: Horizon;
  readonly at: Revision;
  readonly orders: CreationOrders;
  /** Read since the last pause. */
  keys: number;
};

/** Keys that are counted while one is read, at least. */
const COUNTED_FOR_ONE_READ = 128;

function* readPlan(
  read: PlanRead,
  { succeeded, operations, nested }: Plan,
): Generator<void, TxnResult | FaultCode> {
  const { reader, horizon, at, orders } = read;
  const responses: OperationResult[] = [];
  let nextNested = 0;
  for (const operation of operations) {
    if (read.keys >= limits.readSliceKeys) {
      read.keys = 0;
      yield;
    }
    if (operation.kind === 'range') {
      const request = operation.revision > 0 ? operation : { ...operation, revision: at };
      const result = yield* readRange(reader, request, horizon, orders.over(reader, request));
      if (result.kind === 'fault') return result.code;
      read.keys += 1 + result.kvs.length + result.count / COUNTED_FOR_ONE_READ;
      responses.push({ ...result, revision: at });
    } else {
      const inner = nested[nextNested++];
      assert(inner !== undefined, 'a plan holds one plan for each nested transaction');
      const result = yield* readPlan(read, inner);
      if (typeof result === 'string') return result;
      responses.push(result);
    }
  }
  return { kind: 'txn', succeeded, responses, revision: 0 };
}

const NO_LEASES: LeaseExists = { has: () => false };
