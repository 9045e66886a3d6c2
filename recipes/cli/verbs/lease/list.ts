import type { Command } from 'commander';
import { hexId } from '../../../../sdk/hex-id.ts';
import type { CommonOptions } from '../../connection.ts';
import { Output, type View } from '../../output/output.ts';
import { field } from '../../output/table.ts';
import { asVerb } from '../../verb.ts';
import { withClient } from '../../with-client.ts';

const view: View = { columns: [field('LEASE', 'id')] };

async function list(options: CommonOptions): Promise<void> {
  const output = new Output(options.output);
  await withClient(options, async ({ leases }) => {
    const rows = (await leases.list()).map((id) => ({ id: hexId(id) }));
    await output.print({ leases: rows }, rows, view);
  });
}

export function define(command: Command): void {
  asVerb(command, [
    [
      'conclave lease list | xargs -n1 conclave lease ttl --keys -o json',
      'every lease with its keys',
    ],
  ]).action(list);
}
