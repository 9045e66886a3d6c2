/**
 * What the queue writes beside a payload. A job is in exactly one of these places at any revision,
 * and every move between them is one transaction fenced by the entry it removes:
 *
 *     push ──► ready ──claim──► claim ──ack──► (gone)
 *       ├► at ──due──┘ ▲  ▲        ├──nack──► ready or at
 *       ├► line ──turn─┤  └─sweep──┤
 *       ├► blocked ────┤           └──out of attempts──► dead ──replay──► ready
 *       └► cancel ─────┘
 *
 * - `line`: jobs of a group wait for a turn. A job has at most one turn and keeps it until it is
 *   finished, so a turn names exactly one job, which is in ready, at or claim.
 * - `blocked`: parents wait for their children.
 * - `cancel`: a job that replaces a running one is written into that one's order to stop, and becomes
 *   ready in the transaction that ends it. The order exists only beside a claim.
 *
 * Beside its place a job has a record, `job/<id>`, which holds its payload. A light job has none until
 * it needs one: its payload travels along (`data`), so that it costs a key where others cost two. Its
 * places are `ready/<id>` and `claim/<id>`, so that its id tells where it is; what goes elsewhere gets
 * its record in the same transaction (`light-jobs.ts`).
 */
import type { KeyValue } from '../../sdk/kv.ts';
import { parseRecord } from '../common/json-record.ts';

/** Travels with the job from place to place. */
export type JobState = {
  readonly v: 1;
  /** Claims so far. Counted when claiming, because a crash runs no code. */
  readonly attempts: number;
  /** The producer's own limit. */
  readonly maxAttempts?: number;
  /** When it was pushed, by the producer's wall clock. */
  readonly pushedMs: number;
  /** When it was to run, by the wall clock of whoever delayed it. */
  readonly dueMs?: number;
  /** The dedup key it occupies until it is finished. */
  readonly dedup?: string;
  /** How long the dedup key stays taken once the job is done. */
  readonly keyForMs?: number;
  /** Higher ones are offered first. */
  readonly priority?: number;
  /** The group it belongs to, as a level of a key. */
  readonly group?: string;
  /** The turn of its group that it has. */
  readonly turn?: number;
  /** Where it stands among the ready ones if not by its id: a revision, as `sortableHex` writes it. */
  readonly rank?: string;
  /** How long an attempt may take. */
  readonly timeoutMs?: number;
  /** Whose child it is. */
  readonly parent?: ParentLink;
  /** It has children, whose outcomes are kept for it. */
  readonly isParent?: true;
  /** What went wrong last. */
  readonly error?: string;
  /** The payload of a light job. */
  readonly data?: string;
};

/** What a child's failure means for its parent. */
export type ChildFailurePolicy = 'fail' | 'continue' | 'wait';

export type ParentLink = {
  /** The name of the parent's queue. */
  readonly queue: string;
  readonly id: string;
  readonly onFailure: ChildFailurePolicy;
};

export type ClaimState = JobState & {
  /** The worker, by the last level of its key. */
  readonly worker: string;
  /** Tells the claim of a repeated transaction from another's. */
  readonly nonce: string;
  /** How long this entry may stay unchanged before the job counts as abandoned. */
  readonly visibilityMs: number;
  /** The limit in force, so that any worker's sweep can apply it. */
  readonly attemptsMax: number;
  readonly claimedMs: number;
  /** Which of the jobs that may run at a time it is. */
  readonly slot?: number;
  readonly progress?: unknown;
};

export type DeadState = JobState & {
  readonly reason: string;
  readonly deadMs: number;
};

/** When the job became available, by the wall clocks of those who pushed or delayed it. */
export const availableMs = ({ pushedMs, dueMs = 0 }: JobState): number => Math.max(pushedMs, dueMs);

export const encodeState = (state: JobState | ClaimState | DeadState): string =>
  JSON.stringify(state);

/** Reads leniently what somebody may have edited by hand; missing fields get harmless values. */
const decodeState = (kv: KeyValue): Partial<ClaimState & DeadState> => parseRecord(kv);

const optionalFields = [
  'maxAttempts',
  'dueMs',
  'dedup',
  'keyForMs',
  'priority',
  'group',
  'turn',
  'rank',
  'timeoutMs',
  'parent',
  'isParent',
  'error',
  'data',
] as const satisfies readonly (keyof JobState)[];

const jobState = (from: Partial<JobState>): JobState => {
  const state: Record<string, unknown> = {
    v: 1,
    attempts: from.attempts ?? 0,
    pushedMs: from.pushedMs ?? 0,
  };
  for (const field of optionalFields) {
    if (from[field] !== undefined) state[field] = from[field];
  }
  const { data } = from;
  // Written by hand as the value that the text stands for.
  if (data !== undefined && typeof data !== 'string') state['data'] = JSON.stringify(data);
  return state as JobState;
};

export const readJobState = (kv: KeyValue): JobState => jobState(decodeState(kv));

/** Only what travels on: without the fields of the claim. */
export const withoutClaim = (state: ClaimState): JobState => jobState(state);

/** For a job whose turn somebody else takes over. */
export function withoutTurn<State extends JobState>(state: State): State {
  const { turn: _turn, ...rest } = state;
  return rest as State;
}

/** What stays of a job that is finished: neither its dedup key nor its turn. */
export function withoutRights(state: JobState): JobState {
  const { dedup: _dedup, keyForMs: _keyForMs, turn: _turn, rank: _rank, ...rest } = jobState(state);
  return rest;
}

export function readClaimState(kv: KeyValue): ClaimState {
  const state = decodeState(kv);
  return {
    ...jobState(state),
    worker: state.worker ?? '',
    nonce: state.nonce ?? '',
    visibilityMs: state.visibilityMs ?? 0,
    attemptsMax: state.attemptsMax ?? Number.POSITIVE_INFINITY,
    claimedMs: state.claimedMs ?? 0,
    ...(state.slot === undefined ? {} : { slot: state.slot }),
    ...('progress' in state ? { progress: state.progress } : {}),
  };
}

export function readDeadState(kv: KeyValue): DeadState {
  const state = decodeState(kv);
  return { ...jobState(state), reason: state.reason ?? 'unknown', deadMs: state.deadMs ?? 0 };
}
