import { hostname } from 'node:os';
import type { Command } from 'commander';
import { isConclaveError } from '../../../sdk/errors.ts';
import type { RecipeContext } from '../../common/context.ts';
import { SessionKeeper } from '../../common/session-keeper.ts';
import { Election } from '../../election/election.ts';
import { durationOption, exitCodeOption } from '../arguments.ts';
import { exitCodes } from '../exit-codes.ts';
import { execute } from '../run/execute.ts';
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
import { conclude, interrupted, type Verdict, verdictOf, verdictOn } from '../run/verdict.ts';
import { note, tell } from '../stderr.ts';
import { addExamples } from '../verb.ts';
import { withClient } from '../with-client.ts';
import { closeContext, recipeContext } from '../with-session.ts';

type Options = RunOptions & {
  /** Milliseconds; absent: no limit. */
  readonly wait?: number;
  readonly conflictExitCode: number;
  readonly once?: boolean;
  readonly value?: string;
};

type Candidacy = {
  readonly name: string;
  readonly run: Run;
  readonly options: Options;
  readonly relay: SignalRelay;
};

/** One candidacy and, once elected, one run of the command. */
async function serveTerm(context: RecipeContext, candidacy: Candidacy): Promise<Verdict> {
  const { name, run, options, relay } = candidacy;
  const { session } = context;
  const election = new Election<string>(context, name);
  const leadership = await election.campaign({
    value: options.value ?? `${hostname()}:${process.pid}`,
    signal: relay.stop,
    ...(options.wait === undefined ? {} : { timeout: options.wait }),
  });
  if (relay.signalNumber !== undefined) return interrupted(relay.signalNumber);
  tell({
    event: 'acquired',
    name,
    token: `${leadership.term}`,
    key: leadership.key,
    session: session.id,
  });
  const execution = await execute(
    {
      command: run.command,
      environment: {
        ...process.env,
        CONCLAVE_ELECTION: name,
        CONCLAVE_TERM: `${leadership.term}`,
        CONCLAVE_TOKEN: `${leadership.term}`,
        CONCLAVE_KEY: leadership.key,
        CONCLAVE_SESSION: session.id,
      },
      foreground: run.foreground,
    },
    `the leadership of '${name}'`,
    {
      signal: leadership.signal,
      validUntilMs: () => session.validUntilMs,
      nowMs: () => session.client.clock.monotonicMs(),
    },
    run.policy,
    relay,
  );
  // Something of the command still runs: nobody may lead before the session has expired.
  if (!execution.gone) {
    conclude(verdictOn(execution));
    process.exit();
  }
  await leadership.resign().catch((error: Error) => {
    note(`cannot resign from '${name}' now: ${error.message}`);
  });
  return verdictOn(execution);
}

/** A loss that a new candidacy can mend. */
const isLoss = (error: unknown): boolean =>
  isConclaveError(error, 'SESSION_LOST') || isConclaveError(error, 'LEADERSHIP_LOST');

async function serveTerms(candidacy: Candidacy): Promise<Verdict> {
  const { name, run, options, relay } = candidacy;
  return await withClient({ ...runConnection(options), signal: relay.stop }, async (client) => {
    const meta = sessionMeta(run.command);
    const first = await client.session({ ttl: options.ttl, meta, signal: relay.stop });
    const keeper = new SessionKeeper(first, 'shared');
    const base = recipeContext(first);
    try {
      for (;;) {
        const context = { ...base, session: await keeper.live(relay.stop) };
        try {
          const verdict = await serveTerm(context, candidacy);
          if (verdict.reason !== 'lost') return verdict;
          if (options.once || relay.signalNumber !== undefined) return verdict;
        } catch (error) {
          if (!isLoss(error) || options.once) throw error;
        }
        note(`the term in '${name}' is over; waiting for the next one`);
      }
    } finally {
      await keeper.close();
      await closeContext(base);
    }
  });
}

async function elect(
  name: string,
  words: string[],
  options: Options,
  verb: Command,
): Promise<void> {
  requireName(verb, 'NAME', 1 + words.length);
  const run = prepareRun(words, options);
  using relay = new SignalRelay(run.foreground && process.stdin.isTTY);
  try {
    conclude(await serveTerms({ name, run, options, relay }));
  } catch (error) {
    conclude(verdictOf(error, relay, options.conflictExitCode));
  }
}

export function define(command: Command): void {
  addRunOptions(
    addExamples(command.argument('<name>', 'the election'), [
      [
        'conclave elect scheduler -- ./scheduler',
        'runs on one machine at a time, on another when it fails',
      ],
      [
        'conclave elect scheduler --once -- ./scheduler',
        'exit code 123 when the leadership is lost',
      ],
    ]),
  )
    .usage('[options] <name> -- <command> [argument...]')
    .option('--once', 'end when the leadership is lost instead of waiting for the next term')
    .option('--value <text>', 'what others learn about the leader (default: host:pid)')
    .option(
      '--wait <duration>',
      'give up a candidacy after this time (default: no limit)',
      durationOption,
    )
    .option(
      '-E, --conflict-exit-code <code>',
      'exit code when not elected in time',
      exitCodeOption,
      exitCodes.notAcquired,
    )
    .addHelpText(
      'after',
      `
The command is started at the beginning of each term and stopped before the leadership can pass on,
as with 'conclave lock'. When it ends by itself, the leadership is given up and its exit code
passed through. After a loss this process stands again, and starts the command again when elected.

Environment of the command: CONCLAVE_ELECTION, CONCLAVE_TERM (rises from leader to leader; also as
CONCLAVE_TOKEN), CONCLAVE_KEY, CONCLAVE_SESSION.`,
    )
    .action(elect);
}
