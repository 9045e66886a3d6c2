/** Jobs as handlers and observers of a worker see them. */
import type { Codec } from '../../sdk/codec.ts';
import { ConclaveError, type ErrorCode } from '../../sdk/errors.ts';
import type { ChildResult } from './child-results.ts';

/** What a handler is given beside the payload. */
export type Job<T> = {
  readonly id: string;
  readonly data: T;
  /** 1 for the first. */
  readonly attempt: number;
  readonly maxAttempts: number;
  readonly pushedAt: Date;
  readonly priority: number;
  /** The group it belongs to. */
  readonly group?: string;
  /** Fencing token: rises with each claim of the job. */
  readonly token: bigint;
};

export type JobContext = {
  /**
   * Aborts when the claim or session is lost, when the worker's grace period ends, and when the job is
   * to stop: cancelled, replaced, or out of time (`reason` is a JobStoppedError then).
   */
  readonly signal: AbortSignal;
  /** Stores a note with the claim, for people, and extends the claim. */
  readonly progress: (note: unknown) => Promise<void>;
  /** How the children ended that this job has waited for. One exchange. */
  readonly children: <R = unknown>(codec?: Codec<R>) => Promise<readonly ChildResult<R>[]>;
};

export type Handler<T, R> = (job: Job<T>, context: JobContext) => Promise<R> | R;

export type WorkerEvent<T = unknown, R = unknown> =
  | { readonly type: 'claimed'; readonly id: string; readonly job: Job<T> }
  | {
      readonly type: 'progress';
      readonly id: string;
      readonly job: Job<T>;
      readonly note: unknown;
    }
  /** Acknowledged: the store has confirmed it. */
  | { readonly type: 'done'; readonly id: string; readonly job: Job<T>; readonly result: R }
  | {
      readonly type: 'retry';
      readonly id: string;
      readonly job: Job<T>;
      readonly delayMs: number;
      readonly error: unknown;
    }
  /** Out of attempts, or hopeless. */
  | { readonly type: 'dead'; readonly id: string; readonly reason: string }
  /** Stopped and dropped, because somebody cancelled or replaced it. */
  | {
      readonly type: 'cancelled';
      readonly id: string;
      readonly why: 'cancelled' | 'replaced';
      readonly reason: string;
    }
  /** Given back unfinished by a closing worker. */
  | { readonly type: 'returned'; readonly id: string }
  /** The job passed to another worker; what this one did for it may be done again. */
  | { readonly type: 'claim-lost'; readonly id: string; readonly reason: ErrorCode }
  /** A sweep gave back the job of another worker. */
  | { readonly type: 'recovered'; readonly id: string; readonly reason: string }
  /**
   * Something failed in the background: it is repeated, or the job runs out of visibility, or a
   * result could not be kept and its job is done without.
   */
  | { readonly type: 'error'; readonly error: unknown };

/** Why a job is to stop. */
export type StopReason = {
  readonly why: 'cancelled' | 'replaced' | 'timeout';
  readonly reason: string;
};

/** The reason of a job's signal when the job itself is to stop, as opposed to its worker. */
export class JobStoppedError extends ConclaveError {
  override readonly name: string = 'JobStoppedError';
  readonly why: StopReason['why'];

  constructor(id: string, { why, reason }: StopReason) {
    const code = why === 'timeout' ? 'TIMEOUT' : 'ABORTED';
    super(code, `Job ${id} is to stop: ${reason === '' ? why : reason}`);
    this.why = why;
  }
}

/** Thrown by a handler to say that no further attempt can help: the job becomes a dead letter. */
export class UnrecoverableJobError extends Error {
  override readonly name: string = 'UnrecoverableJobError';
  readonly unrecoverable = true;
}

/** By a property, not by instanceof: an application may hold two copies of this package. */
export const isUnrecoverable = (error: unknown): boolean =>
  typeof error === 'object' && error !== null && 'unrecoverable' in error;
