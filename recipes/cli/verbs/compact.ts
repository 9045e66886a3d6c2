import type { Command } from 'commander';
import { revisionOption } from '../arguments.ts';
import type { CommonOptions } from '../connection.ts';
import { Output, type View } from '../output/output.ts';
import { field } from '../output/table.ts';
import { asVerb } from '../verb.ts';
import { withClient } from '../with-client.ts';

const view: View = { columns: [field('COMPACTED TO', 'revision')] };

async function compact(
  revision: bigint,
  options: CommonOptions & { readonly physical?: boolean },
): Promise<void> {
  const output = new Output(options.output);
  await withClient(options, async ({ kv }) => {
    await kv.compact(revision, { physical: options.physical ?? false });
    await output.printOne({ revision: `${revision}` }, view);
  });
}

export function define(command: Command): void {
  asVerb(command, [
    ['conclave compact 81204', 'forgets what keys held before revision 81204'],
    ['conclave compact 81204 --physical', 'and waits until the space is reclaimed'],
  ])
    .argument('<revision>', 'the oldest revision to keep', revisionOption)
    .option('--physical', 'wait until the space is reclaimed')
    .action(compact);
}
