import type { Command } from 'commander';
import { hexId } from '../../../../sdk/hex-id.ts';
import { idOption } from '../../arguments.ts';
import type { CommonOptions } from '../../connection.ts';
import { Output, type View } from '../../output/output.ts';
import { field } from '../../output/table.ts';
import { asVerb } from '../../verb.ts';
import { withClient } from '../../with-client.ts';
import { peerUrlsOption } from './peer-urls.ts';

const view: View = {
  columns: [
    field('UPDATED', 'id'),
    { title: 'PEER URLS', of: (row) => (row['peerUrls'] as readonly string[]).join(',') },
  ],
};

async function update(
  id: bigint,
  options: CommonOptions & { readonly peerUrls: readonly string[] },
): Promise<void> {
  const output = new Output(options.output);
  await withClient(options, async ({ cluster }) => {
    await cluster.updateMember(id, options.peerUrls);
    await output.printOne({ id: hexId(id), peerUrls: options.peerUrls }, view);
  });
}

export function define(command: Command): void {
  asVerb(command, [
    [
      'conclave member update 8e9e05c52164694d --peer-urls http://10.0.0.9:2380',
      'tells the others where it is now',
    ],
  ])
    .argument('<id>', 'the member, as member list prints it', idOption)
    .requiredOption(
      '--peer-urls <list>',
      'where the other members reach it, as http://host:port',
      peerUrlsOption,
    )
    .action(update);
}
