/**
 * What only the leader can answer, asked from any member: of the leader's clock (leases) and of what
 * it sees of the others (membership). While nobody leads, the question waits for one election.
 */
import { Fault, type FaultCode } from './faults.ts';
import type { Clock, Timers } from './ports.ts';
import { NO_NODE } from './raft/message.ts';
import type { Caller } from './rpc/member.ts';
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

type AskOptions = { readonly isRepeatable: boolean; readonly caller?: Caller | undefined };

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
  ask<K extends Kind>(
    question: QuestionOf<K>,
    here: () => Promise<Replies[K]>,
    options: AskOptions,
  ): Promise<Replies[K]> {
    const { self, leader, clock, requestTimeoutMs } = this.#options;
    const deadlineMs = clock.nowMs() + requestTimeoutMs;
    if (leader() !== self) return this.#persist(question, here, options, deadlineMs);
    // The leader is asked by the thousand, and answers nearly all at once: no signal is made for those.
    return here().catch(async (error: unknown) => {
      await this.#afterFailure(error, options);
      return await this.#persist(question, here, options, deadlineMs);
    });
  }

  async #persist<K extends Kind>(
    question: QuestionOf<K>,
    here: () => Promise<Replies[K]>,
    options: AskOptions,
    deadlineMs: number,
  ): Promise<Replies[K]> {
    const { self, clock } = this.#options;
    for (;;) {
      const leader = await this.#knownLeader(options.caller);
      const timeoutMs = deadlineMs - clock.nowMs();
      if (timeoutMs <= 0) throw new Fault('timeout');
      try {
        if (leader === self) return await here();
        const signal = options.caller?.signal;
        return await this.#options.ask<K>(leader, question, {
          timeoutMs,
          ...(signal === undefined ? {} : { signal }),
        });
      } catch (error) {
        await this.#afterFailure(error, options);
      }
    }
  }

  /** Resolves when the question may be asked again; rejects with what the asker is to be told. */
  async #afterFailure(error: unknown, { isRepeatable, caller }: AskOptions): Promise<void> {
    const repeatable = isRepeatable ? harmless : undone;
    if (!(error instanceof Fault) || !repeatable.includes(error.code)) throw error;
    if (!(await this.#nextChange(caller?.signal))) throw error;
  }

  async #knownLeader(caller: Caller | undefined): Promise<bigint> {
    const { clock, electionTimeoutMs, leader } = this.#options;
    const untilMs = clock.nowMs() + electionTimeoutMs;
    while (leader() === NO_NODE) {
      if (clock.nowMs() >= untilMs || !(await this.#nextChange(caller?.signal))) {
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
