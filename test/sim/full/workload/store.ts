/** Reads, writes and transactions on a few keys, by every client; checked for strict serializability. */

import { isConclaveError } from '../../../../sdk/errors.ts';
import type { KeyValue, Kv } from '../../../../sdk/kv.ts';
import { compare, op } from '../../../../sdk/txn.ts';
import { type Outcome, Recorder } from '../../../lin/history.ts';
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
import { hold } from '../../engine/violation.ts';
import type { CommitLog } from '../commit-log.ts';
import type { ClientContext, Workload } from './workload.ts';

export class StoreWorkload implements Workload {
  readonly #recorder: Recorder<StoreAction, StoreAnswer>;
  /** What was last seen of a key, so that swaps have a chance. */
  readonly #seen = new Map<string, Entry>();
  #values = 0;
  #newest = 1;

  constructor(now: () => number) {
    this.#recorder = new Recorder(now);
  }

  /** Operations that were answered. */
  answered = 0;

  async run(client: ClientContext): Promise<void> {
    while (!client.isEnding()) {
      await this.#turn(client);
      await client.pause(client.knobs.meanPauseMs);
    }
  }

  check(log: CommitLog): void {
    const operations = this.#recorder.operations();
    const wrong = checkRevisions({ log: log.commits, operations });
    hold(wrong.length === 0, 9, () => wrong.slice(0, 3).join('; '));
  }

  async #turn(client: ClientContext): Promise<void> {
    const { choose, knobs } = client;
    const key = `key-${choose.below(knobs.keys)}`;
    const other = `key-${choose.below(knobs.keys)}`;
    const action = this.#draw(choose.below(100), key, other, () => choose.below(60));
    const id = this.#recorder.begin(client.name, action);
    const outcome = await perform(client.conclave.kv, action);
    this.#recorder.end(id, outcome);
    if (outcome.kind !== 'ok') return;
    this.answered += 1;
    this.#newest = Math.max(this.#newest, outcome.answer.revision);
    this.#remember(action, outcome.answer);
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
export async function perform(kv: Kv, action: StoreAction): Promise<Outcome<StoreAnswer>> {
  try {
    return { kind: 'ok', answer: await send(kv, action) };
  } catch (error) {
    if (!isConclaveError(error)) throw error;
    const reason = `${error.code}: ${error.message}`;
    return error.outcome === 'unknown' ? { kind: 'unknown', reason } : { kind: 'fail', reason };
  }
}

async function send(kv: Kv, action: StoreAction): Promise<StoreAnswer> {
  switch (action.kind) {
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
      const { revision } = await kv.put(step.key, step.value);
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
  if (step.kind === 'put') return op.put(step.key, step.value);
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
