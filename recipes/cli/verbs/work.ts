import { type Command, Option } from 'commander';
import { SessionKeeper } from '../../common/session-keeper.ts';
import { countOption, durationOption } from '../arguments.ts';
import { exitCodes } from '../exit-codes.ts';
import { usageError } from '../failure.ts';
import { JobLoop, type LoopSettings } from '../run/job-loop.ts';
import {
  addRunOptions,
  prepareRun,
  type Run,
  type RunOptions,
  requireName,
  runConnection,
} from '../run/run-options.ts';
import { sessionMeta } from '../run/session-meta.ts';
import { SignalRelay } from '../run/signal-relay.ts';
import { conclude, type Verdict, verdictOf } from '../run/verdict.ts';
import { note } from '../stderr.ts';
import { addExamples } from '../verb.ts';
import { withClient } from '../with-client.ts';
import { closeContext, recipeContext } from '../with-session.ts';

type Options = RunOptions & {
  readonly concurrency: number;
  /** Milliseconds. */
  readonly visibility: number;
  readonly maxAttempts: number;
  /** Milliseconds. */
  readonly retryDelay: number;
  readonly drain?: boolean;
};

const DEFAULT_VISIBILITY_MS = 30_000;
const DEFAULT_RETRY_DELAY_MS = 30_000;
const DEFAULT_MAX_ATTEMPTS = 5;

async function runJobs(
  settings: LoopSettings,
  run: Run,
  options: Options,
  relay: SignalRelay,
): Promise<Verdict> {
  return await withClient({ ...runConnection(options), signal: relay.stop }, async (client) => {
    const meta = sessionMeta(run.command);
    const first = await client.session({ ttl: options.ttl, meta, signal: relay.stop });
    const keeper = new SessionKeeper(first, 'shared');
    const base = recipeContext(first);
    try {
      for (;;) {
        const context = { ...base, session: await keeper.live(relay.stop) };
        await new JobLoop(context, settings, relay).run();
        // A loop that lost its session goes on in a new one.
        if (relay.stop.aborted) return { exitCode: exitCodes.done, reason: 'interrupted' };
        if (!context.session.signal.aborted) return { exitCode: exitCodes.done, reason: 'drained' };
        note('the session is lost; opening another');
      }
    } finally {
      await keeper.close();
      await closeContext(base);
    }
  });
}

async function work(
  queue: string,
  words: string[],
  options: Options,
  verb: Command,
): Promise<void> {
  requireName(verb, 'QUEUE', 1 + words.length);
  const run = prepareRun(words, { ...options, foreground: false }, options.visibility);
  const { graceMs } = run.policy;
  if (options.visibility < 3 * graceMs) {
    throw usageError(
      `cannot use ${options.visibility} ms as --visibility: it must be at least three times --grace, which is ${graceMs} ms`,
    );
  }
  using relay = new SignalRelay(false);
  relay.finishFirst((signal) => {
    note(`${signal}: finishing the jobs that run; the next signal goes to their commands`);
  });
  const settings: LoopSettings = {
    queue,
    command: run.command,
    policy: run.policy,
    concurrency: options.concurrency,
    visibilityMs: options.visibility,
    maxAttempts: options.maxAttempts,
    retryDelayMs: options.retryDelay,
    drain: options.drain ?? false,
  };
  try {
    conclude(await runJobs(settings, run, options, relay));
  } catch (error) {
    conclude(verdictOf(error, relay, exitCodes.notAcquired));
  }
}

export function define(command: Command): void {
  addRunOptions(
    addExamples(command.argument('<queue>', 'the queue'), [
      ['conclave work mail -- ./send-mail', 'one process for each job, the payload on its stdin'],
      ['conclave work thumbnails --concurrency 4 -- ./thumbnail', 'up to four at a time'],
      ['conclave work mail --drain -- ./send-mail', 'ends when no job is ready'],
    ]),
    { terminal: false },
  )
    .usage('[options] <queue> -- <command> [argument...]')
    .option('--concurrency <n>', 'jobs at a time', countOption(1), 1)
    .addOption(
      new Option(
        '--visibility <duration>',
        'how long a job stays with a worker that shows no sign of life',
      )
        .argParser(durationOption)
        .default(DEFAULT_VISIBILITY_MS, '30s'),
    )
    .option(
      '--max-attempts <n>',
      'then the job becomes a dead letter',
      countOption(1),
      DEFAULT_MAX_ATTEMPTS,
    )
    .addOption(
      new Option('--retry-delay <duration>', 'the wait after exit code 75')
        .argParser(durationOption)
        .default(DEFAULT_RETRY_DELAY_MS, '30s'),
    )
    .option('--drain', 'end when no job is ready')
    .addHelpText(
      'after',
      `
Each job is a process of its own, stopped in time when its claim is lost, as with 'conclave lock'.
Exit code of the command: 0 the job is done; 75 try again after --retry-delay, as often as it takes;
65 give it up (a dead letter, see 'conclave queue dead'); any other, or death by a signal: try again
with growing delays, up to --max-attempts. A job may run twice when a machine fails: fence by
CONCLAVE_TOKEN, or make its effects repeatable.

The first TERM or INT lets running jobs finish; the second goes to their commands, whose jobs are
given back.

Environment of the command: CONCLAVE_QUEUE, CONCLAVE_JOB_ID, CONCLAVE_JOB_ATTEMPT,
CONCLAVE_JOB_MAX_ATTEMPTS, CONCLAVE_TOKEN (rises with each claim of the job), CONCLAVE_SESSION.`,
    )
    .action(work);
}
