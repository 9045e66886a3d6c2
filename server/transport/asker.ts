/**
 * Questions on their way to one member. Lease renewals of one turn of the event loop travel in one
 * call, as there may be thousands a second; other questions may take long and travel alone.
 */
import { Fault } from '../faults.ts';
import type { Timers } from '../ports.ts';
import type { ClientCall, ClientCallHandlers } from './client-call.ts';
import { decodeReplies, encodeQuestions } from './questions.ts';
import type { AskOptions, Question, Reply } from './transport.ts';

export const ASK_PATH = '/conclave.v1.Peer/Ask';
/** Renewed by one call, or a few more. */
const MAX_LEASES = 1_024;

type Asked = {
  readonly question: Question;
  readonly settle: (answer: Reply | Fault) => void;
  isSettled: boolean;
};

export type AskerOptions = {
  readonly timers: Timers;
  /** Undefined: not connected. */
  readonly open: (path: string, handlers: ClientCallHandlers) => ClientCall | undefined;
};

export class Asker {
  readonly #options: AskerOptions;
  #renewals: Asked[] = [];
  /** That they are about. */
  #leases = 0;

  constructor(options: AskerOptions) {
    this.#options = options;
  }

  /** As in `Transport.ask`. */
  ask(question: Question, { timeoutMs, signal }: AskOptions): Promise<Reply> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(new Fault('canceled'));
        return;
      }
      const { timers } = this.#options;
      const asked: Asked = {
        question,
        isSettled: false,
        settle: (answer) => {
          if (asked.isSettled) return;
          asked.isSettled = true;
          stopTimer();
          signal?.removeEventListener('abort', onAbort);
          if (answer instanceof Fault) reject(answer);
          else resolve(answer);
        },
      };
      let call: ClientCall | undefined;
      const giveUp = (fault: Fault) => {
        asked.settle(fault);
        call?.cancel();
      };
      const onAbort = () => giveUp(new Fault('canceled'));
      const stopTimer = timers.after(timeoutMs, () => giveUp(new Fault('timeout')));
      signal?.addEventListener('abort', onAbort);
      if (question.kind === 'renew-leases') this.#renew(asked, question.ids.length);
      else call = this.#send([asked]);
    });
  }

  #renew(asked: Asked, leases: number): void {
    this.#renewals.push(asked);
    this.#leases += leases;
    if (this.#leases >= MAX_LEASES) this.#flush();
    else if (this.#renewals.length === 1) this.#options.timers.soon(() => this.#flush());
  }

  #flush(): void {
    const renewals = this.#renewals.filter(({ isSettled }) => !isSettled);
    this.#renewals = [];
    this.#leases = 0;
    if (renewals.length > 0) this.#send(renewals);
  }

  #send(asked: readonly Asked[]): ClientCall | undefined {
    const lost = () => {
      for (const { settle } of asked) settle(new Fault('timeout-due-to-connection-lost'));
    };
    const call = this.#options.open(ASK_PATH, {
      accepted: () => {},
      message: (message) => {
        const replies = decodeReplies(message);
        asked.forEach(({ question, settle }, index) => {
          const reply = replies[index];
          if (reply !== undefined && fits(question, reply)) settle(reply);
        });
      },
      end: lost,
    });
    if (call === undefined) {
      lost();
      return undefined;
    }
    call.send(encodeQuestions(asked.map(({ question }) => question)));
    call.finish();
    return call;
  }
}

const replyKinds = {
  'renew-leases': 'leases-renewed',
  'describe-lease': 'lease',
  leases: 'leases',
  'propose-membership': 'membership-changed',
} as const satisfies Record<Question['kind'], Reply['kind']>;

const fits = (question: Question, reply: Reply | Fault): boolean =>
  reply instanceof Fault || reply.kind === replyKinds[question.kind];
