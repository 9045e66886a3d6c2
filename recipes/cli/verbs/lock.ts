import type { Command } from 'commander';
import { ConclaveError } from '../../../sdk/errors.ts';
import type { LockHandle } from '../../locks/lock-handle.ts';
import { Mutex } from '../../locks/mutex.ts';
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
};

function environmentOf(name: string, lock: LockHandle, sessionId: string): NodeJS.ProcessEnv {
  return {
    ...process.env,
    CONCLAVE_LOCK: name,
    CONCLAVE_TOKEN: `${lock.token}`,
    CONCLAVE_KEY: lock.key,
    CONCLAVE_SESSION: sessionId,
    ETCD_LOCK_KEY: lock.key,
    ETCD_LOCK_REV: `${lock.token}`,
  };
}

/** `--wait 0s` takes the lock only if nobody has it and nobody waits. */
async function acquire(mutex: Mutex, options: Options, relay: SignalRelay): Promise<LockHandle> {
  if (options.wait !== 0) {
    return await mutex.acquire({
      signal: relay.stop,
      ...(options.wait === undefined ? {} : { timeout: options.wait }),
      ...(process.stderr.isTTY
        ? { onPosition: (ahead: number) => note(`lock '${mutex.name}': ${ahead} ahead`) }
        : {}),
    });
  }
  const lock = await mutex.tryAcquire();
  if (lock !== null) return lock;
  throw new ConclaveError('NOT_ACQUIRED', `The lock '${mutex.name}' is taken`);
}

async function runLocked(
  name: string,
  run: Run,
  options: Options,
  relay: SignalRelay,
): Promise<Verdict> {
  return await withClient({ ...runConnection(options), signal: relay.stop }, async (client) => {
    const session = await client.session({
      ttl: options.ttl,
      meta: sessionMeta(run.command),
      signal: relay.stop,
    });
    const context = recipeContext(session);
    try {
      const lock = await acquire(new Mutex(context, name), options, relay);
      if (relay.signalNumber !== undefined) return interrupted(relay.signalNumber);
      const { token, key } = lock;
      tell({ event: 'acquired', name, token: `${token}`, key, session: session.id });
      const execution = await execute(
        {
          command: run.command,
          environment: environmentOf(name, lock, session.id),
          foreground: run.foreground,
        },
        `the lock '${name}'`,
        {
          signal: lock.signal,
          validUntilMs: () => session.validUntilMs,
          nowMs: () => client.clock.monotonicMs(),
        },
        run.policy,
        relay,
      );
      // Something of the command still runs: nobody may enter before the session has expired.
      if (!execution.gone) {
        conclude(verdictOn(execution));
        process.exit();
      }
      await lock.release().catch((error: Error) => {
        note(`cannot release the lock '${name}' now: ${error.message}`);
      });
      return verdictOn(execution);
    } finally {
      await closeContext(context);
    }
  });
}

async function lock(name: string, words: string[], options: Options, verb: Command): Promise<void> {
  requireName(verb, 'NAME', 1 + words.length);
  const run = prepareRun(words, options);
  using relay = new SignalRelay(run.foreground && process.stdin.isTTY);
  try {
    conclude(await runLocked(name, run, options, relay));
  } catch (error) {
    conclude(verdictOf(error, relay, options.conflictExitCode));
  }
}

export function define(command: Command): void {
  addRunOptions(
    addExamples(command.argument('<name>', 'the lock'), [
      ['conclave lock deploy/prod -- ./deploy.sh', 'waits for its turn, then runs'],
      [
        'conclave lock deploy/prod --wait 30s -- ./deploy.sh',
        'exit code 124 after 30 s without it',
      ],
      [
        "conclave lock nightly --wait 0s -E 0 -c 'pg_dump app > dump.sql'",
        'on one machine of many, from cron',
      ],
    ]),
  )
    .usage('[options] <name> -- <command> [argument...]')
    .option(
      '--wait <duration>',
      'give up after this time; 0s never waits (default: no limit)',
      durationOption,
    )
    .option(
      '-E, --conflict-exit-code <code>',
      'exit code when not acquired',
      exitCodeOption,
      exitCodes.notAcquired,
    )
    .addHelpText(
      'after',
      `
The command runs without a shell, in a process group of its own. When the lock cannot be renewed,
the whole group gets TERM one --grace before the lock ends and KILL when it ends, so it is gone
before another can enter. When the lock is taken away at once (its session revoked), KILL at once.
If this process is killed, the group is killed. If this process is frozen (SIGSTOP, a suspended
machine) nobody can stop the command in time: hand CONCLAVE_TOKEN to what the lock protects and let
it refuse lower ones. What the command leaves running in its group is killed when it ends.

Environment of the command: CONCLAVE_LOCK, CONCLAVE_TOKEN (rises from holder to holder),
CONCLAVE_KEY, CONCLAVE_SESSION; ETCD_LOCK_KEY and ETCD_LOCK_REV as etcdctl sets them.
Exit code: the command's own, 128+n when signal n ended it, 123 when the lock was lost, 124 when it
was not acquired, 125 when conclave failed (also: no server), 126 not executable, 127 not found, 2
for wrong usage.`,
    )
    .action(lock);
}
