import type { Command } from 'commander';
import type { CommonOptions } from '../../connection.ts';
import { Output } from '../../output/output.ts';
import { asVerb } from '../../verb.ts';
import { withClient } from '../../with-client.ts';
import { memberJson, memberView } from './view.ts';

async function list(options: CommonOptions): Promise<void> {
  const output = new Output(options.output);
  await withClient(options, async ({ cluster }) => {
    const rows = (await cluster.members()).map(memberJson);
    await output.print({ members: rows }, rows, memberView);
  });
}

export function define(command: Command): void {
  asVerb(command, [['conclave member list -o json', 'every member with its addresses']]).action(
    list,
  );
}
