import type { Command } from 'commander';
import type { CommonOptions } from '../../connection.ts';
import { hexId } from '../../output/json.ts';
import { Output, type View } from '../../output/output.ts';
import { type Column, field } from '../../output/table.ts';
import { asVerb } from '../../verb.ts';
import { withClient } from '../../with-client.ts';

const urls = (title: string, name: string): Column => ({
  title,
  of: (row) => (row[name] as readonly string[]).join(','),
});

const view: View = {
  columns: [
    field('ID', 'id'),
    field('NAME', 'name'),
    urls('PEER URLS', 'peerUrls'),
    urls('CLIENT URLS', 'clientUrls'),
    field('LEARNER', 'isLearner'),
  ],
};

async function list(options: CommonOptions): Promise<void> {
  const output = new Output(options.output);
  await withClient(options, async ({ cluster }) => {
    const rows = (await cluster.members()).map((member) => ({
      id: hexId(member.id),
      name: member.name,
      peerUrls: member.peerUrls,
      clientUrls: member.clientUrls,
      isLearner: member.isLearner,
    }));
    await output.print({ members: rows }, rows, view);
  });
}

export function define(command: Command): void {
  asVerb(command, [['conclave member list -o json', 'every member with its addresses']]).action(
    list,
  );
}
