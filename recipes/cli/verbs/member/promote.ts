import type { Command } from 'commander';
import { hexId } from '../../../../sdk/hex-id.ts';
import { durationOption, idOption } from '../../arguments.ts';
import type { CommonOptions } from '../../connection.ts';
import { Output, type View } from '../../output/output.ts';
import { field } from '../../output/table.ts';
import { note } from '../../stderr.ts';
import { asVerb } from '../../verb.ts';
import { withClient } from '../../with-client.ts';
import { onceCaughtUp } from './catching-up.ts';

const view: View = { columns: [field('PROMOTED', 'id')] };

async function promote(
  id: bigint,
  options: CommonOptions & { readonly wait?: number },
): Promise<void> {
  const output = new Output(options.output);
  await withClient(options, async ({ cluster }) => {
    const change = (): Promise<void> => cluster.promoteMember(id);
    if (options.wait === undefined) await change();
    else {
      await onceCaughtUp(change, options.wait, () => note('waiting until it has caught up'));
    }
    await output.printOne({ id: hexId(id) }, view);
  });
}

export function define(command: Command): void {
  asVerb(command, [
    ['conclave member promote 8e9e05c52164694d', 'gives a learner that has caught up its vote'],
    ['conclave member promote 8e9e05c52164694d --wait 10m', 'as soon as it has caught up'],
  ])
    .argument('<id>', 'the learner, as member list prints it', idOption)
    .option('--wait <duration>', 'how long to wait until it has caught up', durationOption)
    .action(promote);
}
