/**
 * What happens in a queue, read off the revisions of the store: each move of a job is one transaction,
 * so the changes that one revision made under the queue's prefix tell which move it was. Nothing is
 * written for it, and whoever knows a revision can go on from there.
 */
import type { WatchEvent } from '../../sdk/watch.ts';
import type { RecipeContext } from '../common/context.ts';
import { linkedSignal } from '../common/signals.ts';
import type { QueueKeys } from '../names.ts';
import { idOfEntry } from './job-places.ts';
import { readClaimState, readDeadState, readJobState } from './job-record.ts';

export type QueueEvent = {
  readonly id: string;
  readonly revision: bigint;
} /** It was pushed. `place` says what it waits for, if anything. */ & (
  | { readonly type: 'pushed'; readonly place: Place }
  /** It waits somewhere else now: its time or its turn has come, or its children are finished. */
  | { readonly type: 'moved'; readonly place: Place }
  | { readonly type: 'claimed'; readonly attempt: number; readonly worker: string }
  /** Its worker extended the claim; `progress` is the handler's last note. */
  | { readonly type: 'extended'; readonly progress: unknown }
  /** It runs no longer and will be tried again. */
  | { readonly type: 'returned'; readonly place: Place; readonly error?: string }
  | { readonly type: 'dead'; readonly reason: string }
  | { readonly type: 'replayed'; readonly place: Place }
  /** It runs and is to stop. */
  | { readonly type: 'stopping' }
  /** It ran and is gone: done, or dropped because it was to stop or had failed for good. */
  | { readonly type: 'finished'; readonly hasResult: boolean; readonly wasStopped: boolean }
  /** It waited or was a dead letter, and is gone: cancelled, replaced or discarded. */
  | { readonly type: 'removed' }
);

/** What a job waits for: a worker, a time, a turn of its group, its children, or one that it replaces. */
export type Place = 'ready' | 'at' | 'line' | 'blocked' | 'next';

/** History was compacted before it was told: what happened between two revisions is not known. */
export type QueueGap = { readonly type: 'gap'; readonly revision: bigint };

type Changes = {
  pushed?: true;
  gone?: true;
  put?: Place;
  /** A light job was put where it was not before. */
  hasArrivedLight?: true;
  left?: true;
  claim?: 'taken' | 'extended' | 'ended';
  dead?: 'buried' | 'raised';
  hasResult?: true;
  order?: 'given' | 'done';
  entry?: WatchEvent;
};

/** The events of one revision, by job. Pure. */
export function eventsOf(
  keys: QueueKeys,
  revision: bigint,
  changes: readonly WatchEvent[],
): QueueEvent[] {
  const byJob = new Map<string, Changes>();
  for (const change of changes) {
    const id = idOfEntry(change.kv.key);
    const job = byJob.get(id) ?? {};
    byJob.set(id, job);
    note(keys, job, change);
  }
  return [...byJob].flatMap(([id, job]) => {
    const event = readOff(job);
    return event === undefined ? [] : [{ id, revision, ...event }];
  });
}

const waitingPlaces = ['ready', 'at', 'line', 'blocked'] as const;

function note(keys: QueueKeys, job: Changes, change: WatchEvent): void {
  const { type, kv } = change;
  const put = type === 'put';
  const isIn = (prefix: string) => kv.key.startsWith(prefix);
  const place = waitingPlaces.find((name) => isIn(keys[name]));
  if (place !== undefined) {
    if (put) {
      job.put = place;
      job.entry = change;
      if (kv.version === 1n && readJobState(kv).data !== undefined) job.hasArrivedLight = true;
    } else job.left = true;
  } else if (isIn(keys.job)) {
    if (!put) job.gone = true;
    else if (kv.version === 1n) job.pushed = true;
  } else if (isIn(keys.claim)) {
    job.claim = put ? (kv.version === 1n ? 'taken' : 'extended') : 'ended';
    if (put) job.entry = change;
  } else if (isIn(keys.dead)) {
    job.dead = put ? 'buried' : 'raised';
    if (put) job.entry = change;
  } else if (isIn(keys.result)) {
    if (put) job.hasResult = true;
  } else if (isIn(keys.cancel)) job.order = put ? 'given' : 'done';
}

type Told = QueueEvent extends infer Event
  ? Event extends QueueEvent
    ? Omit<Event, 'id' | 'revision'>
    : never
  : never;

function readOff(job: Changes): Told | undefined {
  const { put: place, entry } = job;
  // A light job that was claimed gets its record when it goes elsewhere.
  const wasThere = job.left === true || job.claim !== undefined || job.dead !== undefined;
  if (!wasThere && (job.pushed || job.hasArrivedLight)) {
    return { type: 'pushed', place: place ?? 'next' };
  }
  if (job.dead === 'buried') {
    return { type: 'dead', reason: entry ? readDeadState(entry.kv).reason : '' };
  }
  if (job.dead === 'raised') return place ? { type: 'replayed', place } : { type: 'removed' };
  if (job.claim === 'taken' && entry) {
    const { attempts, worker } = readClaimState(entry.kv);
    return { type: 'claimed', attempt: attempts, worker };
  }
  if (job.claim === 'extended' && entry) {
    return { type: 'extended', progress: readClaimState(entry.kv).progress };
  }
  if (job.claim === 'ended') {
    if (place === undefined || entry === undefined) {
      return {
        type: 'finished',
        hasResult: job.hasResult === true,
        wasStopped: job.order === 'done',
      };
    }
    const { error } = readJobState(entry.kv);
    return { type: 'returned', place, ...(error === undefined ? {} : { error }) };
  }
  if (job.gone || (job.left && place === undefined)) return { type: 'removed' };
  if (job.order === 'given') return { type: 'stopping' };
  return place === undefined ? undefined : { type: 'moved', place };
}

/**
 * What happens from a revision on, in the order of the store. Ends when the signal aborts, and with the
 * session: closed by its owner, not lost.
 */
export async function* followEvents(
  { session, background }: Pick<RecipeContext, 'session' | 'background'>,
  keys: QueueKeys,
  from: bigint | undefined,
  outer: AbortSignal,
): AsyncGenerator<QueueEvent | QueueGap> {
  const { signal, abort, unlink } = linkedSignal(outer);
  const closing = { close: async () => abort() };
  background.add(closing);
  const start = from === undefined ? {} : { from };
  const watch = session.client.kv.watch({ prefix: keys.root }, { ...start, signal });
  try {
    for await (const notice of watch) {
      if (notice.type === 'reset') yield { type: 'gap', revision: notice.revision };
      if (notice.type === 'events') yield* eventsOf(keys, notice.revision, notice.events);
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    background.delete(closing);
    unlink();
  }
}
