/**
 * What only the leader can answer, asked from any member: of the leader's clock (leases) and of what
 * it sees of the others (membership). While nobody leads, the question waits for one election.
 */
import { Fault, type FaultCode } from './faults.ts';
import type { Clock, Timers } from './ports.ts';
import { NO_NODE } from './raft/message.ts';
import type { Question, Replies, Transport } from './transport/transport.ts';

export type LeaderQuestionsOptions = {
  readonly self: bigint;
  /** NO_NODE while none is known. */
  readonly leader: () => bigint;
  readonly ask: Transport['ask'];
  readonly clock: Clock;
  readonly timers: Timers;
  readonly electionTimeoutMs: number;
  readonly requestTimeoutMs: number;
};

type Kind = Question['kind'];
type QuestionOf<K extends Kind> = Extract<Question, { kind: K }>;

/** Whoever refused so has certainly done nothing. */
const undone: readonly FaultCode[] = ['not-leader', 'no-leader'];
/** What was asked may have been done already, and does no harm when done twice. */
const harmless: readonly FaultCode[] = [
  ...undone,
  'leader-changed',
  'timeout-due-to-connection-lost',
];

export class LeaderQuestions {
  readonly #options: LeaderQuestionsOptions;
  readonly #waiting = new Set<() => void>();

  constructor(options: LeaderQuestionsOptions) {
    this.#options = options;
  }

  /** To be called whenever there may be another leader, or the same one can do more. */
  leadershipChanged(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  /**
   * The leader's answer; `here` gives it when this member leads. Another leader is asked again when
   * the first one certainly did nothing, or when `isRepeatable` says that twice is as good as once.
   */
  async ask<K extends Kind>(
    question: QuestionOf<K>,
    here: () => Promise<Replies[K]>,
    options: { readonly isRepeatable: boolean; readonly signal?: AbortSignal | undefined },
  ): Promise<Replies[K]> {
    const { self, clock, requestTimeoutMs } = this.#options;
    const deadlineMs = clock.nowMs() + requestTimeoutMs;
    for (;;) {
      const leader = await this.#knownLeader(options.signal);
      const timeoutMs = deadlineMs - clock.nowMs();
      if (timeoutMs <= 0) throw new Fault('timeout');
      try {
        if (leader === self) return await here();
        const { signal } = options;
        return await this.#options.ask<K>(leader, question, {
          timeoutMs,
          ...(signal === undefined ? {} : { signal }),
        });
      } catch (error) {
        const repeatable = options.isRepeatable ? harmless : undone;
        if (!(error instanceof Fault) || !repeatable.includes(error.code)) throw error;
        if (!(await this.#nextChange(options.signal))) throw error;
      }
    }
  }

  async #knownLeader(signal: AbortSignal | undefined): Promise<bigint> {
    const { clock, electionTimeoutMs, leader } = this.#options;
    const untilMs = clock.nowMs() + electionTimeoutMs;
    while (leader() === NO_NODE) {
      if (clock.nowMs() >= untilMs || !(await this.#nextChange(signal))) {
        throw new Fault('no-leader');
      }
    }
    return leader();
  }

  /** Whether leadership changed within an election timeout. Rejects when the signal aborts. */
  #nextChange(signal: AbortSignal | undefined): Promise<boolean> {
    const { timers, electionTimeoutMs } = this.#options;
    return new Promise((resolve, reject) => {
      const finish = (settle: () => void) => {
        this.#waiting.delete(wake);
        cancel();
        signal?.removeEventListener('abort', abort);
        settle();
      };
      const wake = () => finish(() => resolve(true));
      const abort = () => finish(() => reject(signal?.reason));
      const cancel = timers.after(electionTimeoutMs, () => finish(() => resolve(false)));
      this.#waiting.add(wake);
      if (signal?.aborted === true) abort();
      else signal?.addEventListener('abort', abort, { once: true });
    });
  }
}
