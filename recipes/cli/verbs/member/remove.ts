import type { Command } from 'commander';
import { hexId } from '../../../../sdk/hex-id.ts';
import { idOption } from '../../arguments.ts';
import type { CommonOptions } from '../../connection.ts';
import { Output, type View } from '../../output/output.ts';
import { field } from '../../output/table.ts';
import { asVerb } from '../../verb.ts';
import { withClient } from '../../with-client.ts';

const view: View = { columns: [field('REMOVED', 'id')] };

async function remove(id: bigint, options: CommonOptions): Promise<void> {
  const output = new Output(options.output);
  await withClient(options, async ({ cluster }) => {
    await cluster.removeMember(id);
    await output.printOne({ id: hexId(id) }, view);
  });
}

export function define(command: Command): void {
  asVerb(command, [
    ['conclave member remove 8e9e05c52164694d', 'for good: its id never returns'],
    ['conclave member replace 8e9e05c52164694d d --peer-urls URL', 'to put another in its place'],
  ])
    .argument('<id>', 'the member, as member list prints it', idOption)
    .action(remove);
}
