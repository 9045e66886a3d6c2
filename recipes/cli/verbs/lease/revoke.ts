import type { Command } from 'commander';
import { hexId } from '../../../../sdk/hex-id.ts';
import { idOption } from '../../arguments.ts';
import type { CommonOptions } from '../../connection.ts';
import { Output, type View } from '../../output/output.ts';
import { field } from '../../output/table.ts';
import { asVerb } from '../../verb.ts';
import { withClient } from '../../with-client.ts';

const view: View = { columns: [field('REVOKED', 'id')] };

async function revoke(id: bigint, options: CommonOptions): Promise<void> {
  const output = new Output(options.output);
  await withClient(options, async ({ leases }) => {
    await leases.revoke(id);
    await output.printOne({ id: hexId(id) }, view);
  });
}

export function define(command: Command): void {
  asVerb(command, [
    ['conclave lease revoke 694d8b2ff3d0a103', 'ends the lease and deletes its keys'],
  ])
    .argument('<id>', 'the lease', idOption)
    .action(revoke);
}
