/** Who has which job, and who is there to take one, as the store's records tell it. */
import type { Client } from '../../sdk/client.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import type { CallOptions } from '../../sdk/options.ts';
import { parseRecord } from '../common/json-record.ts';
import { type QueueKeys, unescapeName } from '../names.ts';
import { readClaimState } from './job-record.ts';

export type ActiveJob = {
  readonly id: string;
  /** Who has it: one of `workers()`, unless that is gone and the job about to return. */
  readonly worker: string;
  /** The session of the worker. */
  readonly session: string;
  /** Claimed then, by the worker's wall clock. */
  readonly since: Date;
  /** Claims of the job so far, this one included. */
  readonly attempts: number;
  readonly maxAttempts: number;
  /** How long others leave it to the worker without hearing of it. */
  readonly visibilityMs: number;
  readonly priority: number;
  /** The group it belongs to. */
  readonly group?: string;
  /** The handler's last note. */
  readonly progress?: unknown;
};

export type QueueWorker = {
  /** As active jobs name it. */
  readonly worker: string;
  readonly session: string;
  /** By its wall clock. */
  readonly since: Date;
  /** What its session says of itself. */
  readonly meta: Readonly<Record<string, string>>;
};

/** A worker is named by its session and a random part, neither of which has a hyphen. */
const sessionOf = (worker: string): string => worker.slice(0, worker.lastIndexOf('-'));

export async function readActive(
  client: Client,
  { claim }: QueueKeys,
  options: CallOptions,
): Promise<readonly ActiveJob[]> {
  const { kvs } = await client.kv.list({ prefix: claim }, options);
  return kvs.map((entry) => {
    const state = readClaimState(entry);
    const { worker, group, visibilityMs } = state;
    return {
      id: entry.key.slice(claim.length),
      worker,
      session: sessionOf(worker),
      since: new Date(state.claimedMs),
      attempts: state.attempts,
      maxAttempts: state.attemptsMax,
      visibilityMs,
      priority: state.priority ?? 0,
      ...(group === undefined ? {} : { group: unescapeName(group) }),
      ...('progress' in state ? { progress: state.progress } : {}),
    };
  });
}

export async function readWorkers(
  client: Client,
  keys: QueueKeys,
  options: CallOptions,
): Promise<readonly QueueWorker[]> {
  const { kvs } = await client.kv.list({ prefix: keys.worker }, options);
  return kvs.map((entry) => {
    const worker = entry.key.slice(keys.worker.length);
    return { worker, session: sessionOf(worker), ...readRecord(entry) };
  });
}

/** Lenient with what somebody wrote by hand: such a worker is there since it was written, who knows when. */
function readRecord(entry: KeyValue): Pick<QueueWorker, 'since' | 'meta'> {
  const record: { sinceMs?: number; meta?: QueueWorker['meta'] } = parseRecord(entry);
  const { sinceMs = 0, meta = {} } = record;
  return { since: new Date(sinceMs), meta };
}
