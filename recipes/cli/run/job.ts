/** One job as one process: payload on stdin, the exit code decides what becomes of it. */
import { isConclaveError } from '../../../sdk/errors.ts';
import type { Session } from '../../../sdk/session.ts';
import { linkedSignal } from '../../common/signals.ts';
import { exponential } from '../../queue/backoff.ts';
import type { Claim } from '../../queue/claim.ts';
import { note, tell } from '../stderr.ts';
import { type Execution, execute } from './execute.ts';
import type { SignalRelay } from './signal-relay.ts';
import type { LossPolicy } from './supervise.ts';

/** From sysexits.h. */
const jobExitCodes = { done: 0, deadLetter: 65, retryLater: 75 } as const;

export type JobSettings = {
  readonly queue: string;
  readonly command: readonly [string, ...string[]];
  readonly policy: LossPolicy;
  /** The wait after exit code 75. */
  readonly retryDelayMs: number;
};

const backoff = exponential();

/** Extensions within one visibility period: two may fail. */
const EXTENSIONS_PER_PERIOD = 3;

/** Keeps the claim while its command runs, and knows until when it is certain. */
class ClaimKeeper {
  readonly #claim: Claim<Uint8Array>;
  readonly #session: Session;
  #validUntilMs: number;
  readonly #timer: NodeJS.Timeout;
  #extending = false;

  /** @param askedMs before the claim was asked for: it is certain for one period from then */
  constructor(claim: Claim<Uint8Array>, session: Session, askedMs: number) {
    this.#claim = claim;
    this.#session = session;
    this.#validUntilMs = askedMs + claim.visibilityMs;
    const everyMs = claim.visibilityMs / EXTENSIONS_PER_PERIOD;
    this.#timer = setInterval(() => void this.#extend(everyMs), everyMs);
  }

  get validUntilMs(): number {
    return Math.min(this.#validUntilMs, this.#session.validUntilMs);
  }

  /** For what is done last: its signal aborts when the claim, extended no more, ends. */
  async finish(settle: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const { clock } = this.#session.client;
    const { signal, abort, unlink } = linkedSignal(this.#session.signal);
    const leftMs = this.#validUntilMs - clock.monotonicMs();
    const cancel = clock.setTimer(Math.max(0, leftMs), abort);
    try {
      await settle(signal);
    } finally {
      cancel();
      unlink();
    }
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  async #extend(timeoutMs: number): Promise<void> {
    if (this.#extending) return;
    this.#extending = true;
    const sentMs = this.#session.client.clock.monotonicMs();
    try {
      await this.#claim.extend(undefined, { timeout: timeoutMs });
      this.#validUntilMs = sentMs + this.#claim.visibilityMs;
    } catch {
      // Tried again at the next turn; a claim that is gone aborts its own signal.
    } finally {
      this.#extending = false;
    }
  }
}

async function runCommand(
  claim: Claim<Uint8Array>,
  session: Session,
  keeper: ClaimKeeper,
  settings: JobSettings,
  relay: SignalRelay,
): Promise<Execution> {
  return await execute(
    {
      command: settings.command,
      environment: {
        ...process.env,
        CONCLAVE_QUEUE: settings.queue,
        CONCLAVE_JOB_ID: claim.id,
        CONCLAVE_JOB_ATTEMPT: `${claim.attempt}`,
        CONCLAVE_JOB_MAX_ATTEMPTS: `${claim.maxAttempts}`,
        CONCLAVE_TOKEN: `${claim.token}`,
        CONCLAVE_SESSION: session.id,
      },
      foreground: false,
      input: claim.data,
    },
    `the claim on job ${claim.id}`,
    {
      signal: claim.signal,
      validUntilMs: () => keeper.validUntilMs,
      nowMs: () => session.client.clock.monotonicMs(),
    },
    settings.policy,
    relay,
  );
}

/**
 * What the exit code says, done in the store: repeated until it answers or the signal aborts. Says it
 * on stderr too, unless all went well.
 */
async function settle(
  claim: Claim<Uint8Array>,
  exitCode: number,
  settings: JobSettings,
  random: () => number,
  signal: AbortSignal,
): Promise<void> {
  const error = `exit code ${exitCode}`;
  const say = (
    result: 'done' | 'dead' | 'again',
    delayMs: number | null,
    sentence?: string,
  ): void =>
    tell(
      { event: 'settling', job: claim.id, attempt: claim.attempt, exitCode, result, delayMs },
      sentence,
    );
  const attempt = `job ${claim.id}, attempt ${claim.attempt} of ${claim.maxAttempts}: ${error}`;
  switch (exitCode) {
    case jobExitCodes.done:
      say('done', null);
      return await claim.ack(undefined, { signal });
    case jobExitCodes.deadLetter:
      say('dead', null, `${attempt}; now a dead letter`);
      return await claim.dead(`the command gave it up with ${error}`, { error, signal });
    case jobExitCodes.retryLater:
      say('again', settings.retryDelayMs, `${attempt}; again in ${settings.retryDelayMs} ms`);
      return await claim.nack({ delay: settings.retryDelayMs, error, signal });
    default: {
      if (claim.attempt >= claim.maxAttempts) {
        say('dead', null, `${attempt}; now a dead letter`);
        const reason = `attempt ${claim.attempt} of ${claim.maxAttempts} failed: ${error}`;
        return await claim.dead(reason, { error, signal });
      }
      const delayMs = Math.round(backoff(claim.attempt, random));
      say('again', delayMs, `${attempt}; again in ${delayMs} ms`);
      return await claim.nack({ delay: delayMs, error, signal });
    }
  }
}

/** Runs the job's command and settles the claim. Never rejects for reasons of the job. */
export async function runJob(
  claim: Claim<Uint8Array>,
  session: Session,
  askedMs: number,
  settings: JobSettings,
  relay: SignalRelay,
): Promise<void> {
  const stoppedBefore = relay.stop.aborted;
  const { id, attempt, token } = claim;
  tell({
    event: 'acquired',
    name: settings.queue,
    job: id,
    attempt,
    token: `${token}`,
    session: session.id,
  });
  const keeper = new ClaimKeeper(claim, session, askedMs);
  let execution: Execution;
  try {
    execution = await runCommand(claim, session, keeper, settings, relay);
  } finally {
    keeper.stop();
  }
  // Lost: it is another's by now, or soon. Not gone: nobody may have it before the claim runs out.
  if (execution.lost || !execution.gone) return;
  const { exitCode } = execution;
  try {
    // Stopped by a signal of the operator: that is no failure of the job.
    const interrupted = exitCode > 128 && relay.stop.aborted && !stoppedBefore;
    await keeper.finish((signal) =>
      interrupted
        ? claim.giveBack({ signal })
        : settle(claim, exitCode, settings, session.client.random, signal),
    );
  } catch (error) {
    if (!isConclaveError(error)) throw error;
    const inVain = error.code === 'ABORTED';
    const reason = inVain ? 'the store did not take that in time; it may run again' : error.message;
    note(`job ${claim.id} ended with exit code ${exitCode}, but: ${reason}`);
  }
}
