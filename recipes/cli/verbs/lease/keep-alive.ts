import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { ConclaveError } from '../../../../sdk/errors.ts';
import { hexId } from '../../../../sdk/hex-id.ts';
import { idOption } from '../../arguments.ts';
import type { CommonOptions } from '../../connection.ts';
import { signalExitCode } from '../../exit-codes.ts';
import { Output, type View } from '../../output/output.ts';
import { field } from '../../output/table.ts';
import { asVerb } from '../../verb.ts';
import { withClient } from '../../with-client.ts';

const view: View = { columns: [field('LEASE', 'id'), field('TTL MS', 'ttlMs')] };

/** Renewals within one TTL, so that one may fail. */
const RENEWALS_PER_TTL = 3;

async function keepAlive(
  id: bigint,
  options: CommonOptions & { readonly once?: boolean },
): Promise<void> {
  const output = new Output(options.output);
  const interrupted = new AbortController();
  const interrupt = (_signal: string, signalNumber: number): void => {
    process.exitCode = signalExitCode(signalNumber);
    interrupted.abort();
  };
  process.once('SIGINT', interrupt);
  process.once('SIGTERM', interrupt);
  const { signal } = interrupted;
  await withClient(options, async ({ leases }) => {
    do {
      const { ttlMs } = await leases.keepAlive(id);
      if (ttlMs <= 0) {
        throw new ConclaveError('LEASE_NOT_FOUND', `The lease ${hexId(id)} does not exist`);
      }
      await output.row({ id: hexId(id), ttlMs }, view);
      if (options.once) return;
      await sleep(ttlMs / RENEWALS_PER_TTL, undefined, { signal }).catch(() => undefined);
    } while (!signal.aborted);
  });
}

export function define(command: Command): void {
  asVerb(command, [
    [
      'conclave lease keep-alive 694d8b2ff3d0a103',
      'until interrupted, or exit code 3 when it is gone',
    ],
    ['conclave lease keep-alive 694d8b2ff3d0a103 --once', 'one renewal'],
  ])
    .argument('<id>', 'the lease', idOption)
    .option('--once', 'renew once and end')
    .action(keepAlive);
}
