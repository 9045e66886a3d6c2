/**
 * Those who wait for a linearizable read. All who ask in one turn share a round of Raft; while nobody
 * leads a round is held for an election.
 */
import type { FaultCode } from './faults.ts';
import { Waiting } from './waiting.ts';

export type ReadRoundsOptions = {
  readonly electionTimeoutMs: number;
  readonly requestTimeoutMs: number;
};

type Round = { readonly id: number; readonly passed: Promise<void>; readonly holdUntilMs: number };

export class ReadRounds {
  readonly #options: ReadRoundsOptions;
  readonly #waiting = new Waiting<void>();
  /** In order of time. */
  readonly #deadlines = new Map<number, number>();
  /** The round that those who ask now share. */
  #next: Round | undefined;

  constructor(options: ReadRoundsOptions) {
    this.#options = options;
  }

  get isAnyHeld(): boolean {
    return this.#next !== undefined;
  }

  /** Resolves when the round may be served. `newId` names it, if it has to be a new one. */
  join(nowMs: number, newId: () => number): Promise<void> {
    this.#next ??= this.#open(newId(), nowMs);
    return this.#next.passed;
  }

  #open(id: number, nowMs: number): Round {
    const { electionTimeoutMs, requestTimeoutMs } = this.#options;
    this.#deadlines.set(id, nowMs + requestTimeoutMs);
    return { id, passed: this.#waiting.wait(id), holdUntilMs: nowMs + electionTimeoutMs };
  }

  /** The round to begin now, if there is one. */
  take(nowMs: number, hasLeader: boolean): number | undefined {
    const round = this.#next;
    if (round === undefined || (!hasLeader && nowMs < round.holdUntilMs)) return undefined;
    this.#next = undefined;
    return round.id;
  }

  resolve(id: number): void {
    this.#deadlines.delete(id);
    this.#waiting.resolve(id, undefined);
  }

  reject(id: number, fault: FaultCode): void {
    this.#deadlines.delete(id);
    this.#waiting.reject(id, fault);
  }

  expire(nowMs: number): void {
    for (const [id, deadlineMs] of this.#deadlines) {
      if (deadlineMs > nowMs) return;
      this.reject(id, 'timeout');
    }
  }

  rejectAll(fault: FaultCode): void {
    this.#waiting.rejectAll(fault);
    this.#deadlines.clear();
    this.#next = undefined;
  }
}
