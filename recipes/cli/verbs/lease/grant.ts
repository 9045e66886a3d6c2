import type { Command } from 'commander';
import { hexId } from '../../../../sdk/hex-id.ts';
import { durationOption, idOption } from '../../arguments.ts';
import type { CommonOptions } from '../../connection.ts';
import { Output, type View } from '../../output/output.ts';
import { field } from '../../output/table.ts';
import { asVerb } from '../../verb.ts';
import { withClient } from '../../with-client.ts';

const view: View = { columns: [field('LEASE', 'id'), field('TTL MS', 'ttlMs')] };

async function grant(
  ttlMs: number,
  options: CommonOptions & { readonly id?: bigint },
): Promise<void> {
  const output = new Output(options.output);
  await withClient(options, async ({ leases }) => {
    const lease = await leases.grant(ttlMs, options.id === undefined ? {} : { id: options.id });
    await output.printOne({ id: hexId(lease.id), ttlMs: lease.ttlMs }, view);
  });
}

export function define(command: Command): void {
  asVerb(command, [
    ['conclave lease grant 60s', 'prints the id of the new lease'],
    ['lease=$(conclave lease grant 60s -o raw)', 'the id alone, for a script'],
  ])
    .argument('<ttl>', 'how long it lives unrenewed; rounded up to seconds', durationOption)
    .option('--id <id>', 'an id of your choice', idOption)
    .action(grant);
}
