/** Reads, writes and transactions on a few keys, by every client; checked for strict serializability. */

import type { Conclave } from '../../../../recipes/connect.ts';
import { ConclaveError, isConclaveError } from '../../../../sdk/errors.ts';
import type { KeyValue, Kv } from '../../../../sdk/kv.ts';
import { compare, op } from '../../../../sdk/txn.ts';
import { type Outcome, Recorder } from '../../../lin/history.ts';
import { checkLeases } from '../../../lin/lease.ts';
import { checkRevisions } from '../../../lin/replay.ts';
import {
  type Entry,
  put,
  read,
  remove,
  type Step,
  type StepResult,
  type StoreAction,
  type StoreAnswer,
  type StoreTxn,
} from '../../../lin/store.ts';
import { SECOND } from '../../engine/engine.ts';
import { hold } from '../../engine/violation.ts';
import type { CommitLog } from '../commit-log.ts';
import { ignoreRefusal } from './sessions.ts';
import type { ClientContext, Workload } from './workload.ts';

/** Clocks go wrong by at most so much, against each other. */
const LARGEST_DRIFT = 0.001;

export class StoreWorkload implements Workload {
  readonly #recorder: Recorder<StoreAction, StoreAnswer>;
  /** What was last seen of a key, so that swaps have a chance. */
  readonly #seen = new Map<string, Entry>();
  #values = 0;
  #newest = 1;
  /** Compaction up to here was asked for, by anybody. */
  #compacting = 0;
  /** Compaction up to here was confirmed. */
  #compacted = 0;

  constructor(now: () => number) {
    this.#recorder = new Recorder(now);
  }

  async run(client: ClientContext): Promise<void> {
    const hasLeases = client.choose.below(3) === 0;
    while (!client.isEnding()) {
      if (hasLeases) await this.#lease(client);
      else await this.#turn(client);
      await client.pause(client.knobs.meanPauseMs);
    }
  }

  check(log: CommitLog, end: number): void {
    const operations = this.#recorder.operations();
    // The SDK does not tell at which revision a lease was granted or ended; and a holder may fail to
    // renew under faults, so any lease may end. That none does too early is checked next.
    const wrong = checkRevisions({
      log: log.commits,
      operations: operations.filter(
        ({ action }) => action.kind === 'txn' || action.kind === 'read-at',
      ),
      mayExpire: () => true,
    });
    hold(wrong.length === 0, 9, () => wrong.slice(0, 3).join('; '));
    const [early] = checkLeases({
      log: log.commits,
      operations,
      unitsPerSecond: SECOND * (1 - LARGEST_DRIFT),
      // How long there may be no leader to end a lease is bounded by nothing.
      slackSeconds: Number.POSITIVE_INFINITY,
      end,
    });
    hold(early === undefined, 13, () => `${early}`);
  }

  /** A lease with two keys: renewed for a while, then revoked or left to expire. */
  async #lease(client: ClientContext): Promise<void> {
    const { choose, knobs } = client;
    this.#values += 1;
    const lease = BigInt(1_000 + this.#values);
    const { leaseTtlSeconds: ttlSeconds } = knobs;
    const granted = await this.#do(client, { kind: 'grant', lease, ttlSeconds });
    if (granted.kind !== 'ok') return;
    for (const part of ['a', 'b']) {
      await this.#do(client, put(`lease-${lease}-${part}`, this.#value(), lease));
    }
    for (let renewals = choose.below(6); renewals > 0 && !client.isEnding(); renewals -= 1) {
      await client.pause((ttlSeconds * 1_000) / 3);
      const renewed = await this.#do(client, { kind: 'renew', lease });
      if (renewed.kind === 'fail') return;
    }
    if (choose.below(2) === 0) await this.#do(client, { kind: 'revoke', lease });
  }

  async #do(client: ClientContext, action: StoreAction): Promise<Outcome<StoreAnswer>> {
    const id = this.#recorder.begin(client.name, action);
    const outcome = await perform(client.conclave, action);
    this.#recorder.end(id, outcome);
    return outcome;
  }

  async #turn(client: ClientContext): Promise<void> {
    const { choose, knobs } = client;
    const key = `key-${choose.below(knobs.keys)}`;
    const other = `key-${choose.below(knobs.keys)}`;
    const action = this.#draw(choose.below(100), key, other, () => choose.below(60));
    if (choose.below(50) === 49) await this.#compact(client);
    const before = this.#compacted;
    const outcome = await this.#do(client, action);
    if (action.kind === 'read-at') this.#checkHorizon(action.revision, before, outcome);
    if (outcome.kind !== 'ok') return;
    this.#newest = Math.max(this.#newest, outcome.answer.revision);
    this.#remember(action, outcome.answer);
  }

  /** Forgets some history: readers of it are told so, and nobody else notices. */
  async #compact({ conclave, choose }: ClientContext): Promise<void> {
    const revision = this.#newest - choose.below(20);
    if (revision <= 0) return;
    this.#compacting = Math.max(this.#compacting, revision);
    try {
      await conclave.kv.compact(BigInt(revision));
      this.#compacted = Math.max(this.#compacted, revision);
    } catch (error) {
      ignoreRefusal(error);
    }
  }

  /** What is compacted cannot be read any more, and what is not can be. */
  #checkHorizon(revision: number, before: number, outcome: Outcome<StoreAnswer>): void {
    hold(
      outcome.kind !== 'ok' || revision >= before,
      12,
      () => `revision ${revision} was read after it had been compacted up to ${before}`,
    );
    hold(
      outcome.kind === 'ok' ||
        !outcome.reason.startsWith('COMPACTED') ||
        revision < this.#compacting,
      12,
      () => `revision ${revision} is compacted, and only up to ${this.#compacting} was asked for`,
    );
  }

  #draw(dice: number, key: string, other: string, back: () => number): StoreAction {
    if (dice < 32) return put(key, this.#value());
    if (dice < 38) return remove(key);
    if (dice < 52) return this.#swapByRevision(key, other);
    if (dice < 62) return this.#swapByValue(key);
    if (dice < 86) return read(key);
    if (dice < 92) return { ...read(key), serializable: true };
    if (dice < 96) {
      return { kind: 'read-at', key, revision: Math.max(1, this.#newest - back()) };
    }
    return read(other);
  }

  #value(): string {
    this.#values += 1;
    return `v${this.#values}`;
  }

  #swapByRevision(key: string, other: string): StoreTxn {
    const keys = [...new Set([key, other])];
    return {
      kind: 'txn',
      conditions: [{ key, modRevision: this.#seen.get(key)?.modRevision ?? 0 }],
      success: keys.map((one): Step => ({ kind: 'put', key: one, value: this.#value() })),
      failure: [{ kind: 'read', key }],
    };
  }

  #swapByValue(key: string): StoreTxn {
    const value = this.#seen.get(key)?.value;
    return {
      kind: 'txn',
      conditions: [value === undefined ? { key, modRevision: 0 } : { key, value }],
      success: [{ kind: 'put', key, value: this.#value() }],
      failure: [{ kind: 'read', key }],
    };
  }

  #remember(action: StoreAction, answer: StoreAnswer): void {
    if (action.kind !== 'txn' || action.serializable === true) return;
    const steps = answer.succeeded === false ? action.failure : action.success;
    for (const [at, step] of steps.entries()) {
      const result = answer.results?.[at];
      if (result?.kind === 'read' && result.entry !== undefined) {
        this.#seen.set(step.key, result.entry);
      }
    }
  }
}

/** Carries an action out through the SDK. Never rejects: a failure is an outcome. */
export async function perform(
  conclave: Conclave,
  action: StoreAction,
): Promise<Outcome<StoreAnswer>> {
  try {
    return { kind: 'ok', answer: await send(conclave, action) };
  } catch (error) {
    if (!isConclaveError(error)) throw error;
    const reason = `${error.code}: ${error.message}`;
    return error.outcome === 'unknown' ? { kind: 'unknown', reason } : { kind: 'fail', reason };
  }
}

async function send({ kv, leases }: Conclave, action: StoreAction): Promise<StoreAnswer> {
  switch (action.kind) {
    // The SDK does not tell the revisions of leases: 0 claims nothing.
    case 'grant':
      await leases.grant(action.ttlSeconds * 1_000, { id: action.lease });
      return { revision: 0 };
    case 'revoke':
      await leases.revoke(action.lease);
      return { revision: 0 };
    case 'renew': {
      const { ttlMs } = await leases.keepAlive(action.lease);
      if (ttlMs > 0) return { revision: 0 };
      throw new ConclaveError('LEASE_NOT_FOUND', 'the lease is gone', { outcome: 'not-applied' });
    }
    case 'txn':
      return sendTxn(kv, action);
    case 'read-at': {
      const { kvs, revision } = await kv.list(action.key, { revision: BigInt(action.revision) });
      return { revision: Number(revision), results: [found(kvs[0])] };
    }
    default:
      throw new RangeError(`this workload does not ${action.kind}`);
  }
}

async function sendTxn(kv: Kv, txn: StoreTxn): Promise<StoreAnswer> {
  const [step] = txn.success;
  if (txn.conditions.length === 0 && txn.success.length === 1 && step !== undefined) {
    return sendStep(kv, step, txn.serializable === true);
  }
  const compares = txn.conditions.map((condition) =>
    'value' in condition
      ? compare.value(condition.key, '==', condition.value)
      : compare.modRevision(condition.key, '==', BigInt(condition.modRevision)),
  );
  const result = await kv
    .txn()
    .if(...compares)
    .then(...txn.success.map(operationOf))
    .else(...txn.failure.map(operationOf))
    .commit();
  const steps = result.succeeded ? txn.success : txn.failure;
  return {
    revision: Number(result.revision),
    succeeded: result.succeeded,
    results: steps.map((each, at): StepResult => {
      if (each.kind === 'put') return { kind: 'put' };
      const response = result.responses[at] as KeyValue | null | { readonly deleted: bigint };
      if (each.kind === 'delete') {
        const deleted = response !== null && 'deleted' in response ? response.deleted : 0n;
        return { kind: 'delete', deleted: Number(deleted) };
      }
      return found(response !== null && 'modRevision' in response ? response : undefined);
    }),
  };
}

async function sendStep(kv: Kv, step: Step, serializable: boolean): Promise<StoreAnswer> {
  switch (step.kind) {
    case 'put': {
      const { revision } = await kv.put(step.key, step.value, { lease: step.lease ?? 0n });
      return { revision: Number(revision), results: [{ kind: 'put' }] };
    }
    case 'delete': {
      const { revision, deleted } = await kv.delete(step.key);
      const results = [{ kind: 'delete', deleted: Number(deleted) } as const];
      return { revision: Number(revision), results };
    }
    case 'read': {
      const { kvs, revision } = await kv.list(step.key, { serializable });
      return { revision: Number(revision), results: [found(kvs[0])] };
    }
  }
}

const operationOf = (step: Step) => {
  if (step.kind === 'put') return op.put(step.key, step.value, { lease: step.lease ?? 0n });
  return step.kind === 'delete' ? op.delete(step.key) : op.get(step.key);
};

function found(kv: KeyValue | undefined): StepResult {
  if (kv === undefined) return { kind: 'read', entry: undefined };
  const entry = {
    value: Buffer.from(kv.value).toString(),
    createRevision: Number(kv.createRevision),
    modRevision: Number(kv.modRevision),
    version: Number(kv.version),
    lease: kv.lease,
  };
  return { kind: 'read', entry };
}
