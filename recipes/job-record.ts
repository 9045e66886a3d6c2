/**
 * What the queue writes beside a payload. A job is in exactly one of these places at any revision,
 * and every move between them is one transaction fenced by the entry it removes:
 *
 *     push ──► ready ──claim──► claim ──ack──► (gone)
 *       └► at ──due──┘ ▲          ├──nack──► ready or at
 *                      └──sweep───┤
 *                                 └──out of attempts──► dead ──replay──► ready
 */
import type { KeyValue } from '../sdk/kv.ts';

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
  /** What went wrong last. */
  readonly error?: string;
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
  readonly progress?: unknown;
};

export type DeadState = JobState & {
  readonly reason: string;
  readonly deadMs: number;
};

export const encodeState = (state: JobState | ClaimState | DeadState): string =>
  JSON.stringify(state);

/** Reads leniently what somebody may have edited by hand; missing fields get harmless values. */
function decodeState(kv: KeyValue): Partial<ClaimState & DeadState> {
  try {
    const parsed: unknown = JSON.parse(Buffer.from(kv.value).toString('utf8'));
    if (typeof parsed === 'object' && parsed !== null) return parsed;
  } catch {
    // Not ours: treated as a job without a history.
  }
  return {};
}

const jobState = (state: Partial<JobState>): JobState => ({
  v: 1,
  attempts: state.attempts ?? 0,
  pushedMs: state.pushedMs ?? 0,
  ...(state.maxAttempts === undefined ? {} : { maxAttempts: state.maxAttempts }),
  ...(state.dueMs === undefined ? {} : { dueMs: state.dueMs }),
  ...(state.dedup === undefined ? {} : { dedup: state.dedup }),
  ...(state.error === undefined ? {} : { error: state.error }),
});

export const readJobState = (kv: KeyValue): JobState => jobState(decodeState(kv));

/** Only what travels on: without the fields of the claim. */
export const withoutClaim = (state: ClaimState): JobState => jobState(state);

export function readClaimState(kv: KeyValue): ClaimState {
  const state = decodeState(kv);
  return {
    ...jobState(state),
    worker: state.worker ?? '',
    nonce: state.nonce ?? '',
    visibilityMs: state.visibilityMs ?? 0,
    attemptsMax: state.attemptsMax ?? Number.POSITIVE_INFINITY,
    claimedMs: state.claimedMs ?? 0,
    ...('progress' in state ? { progress: state.progress } : {}),
  };
}

export function readDeadState(kv: KeyValue): DeadState {
  const state = decodeState(kv);
  return { ...jobState(state), reason: state.reason ?? 'unknown', deadMs: state.deadMs ?? 0 };
}
