import type { Command } from 'commander';
import { inLineOrder, type LineEntry, lineEntry } from '../../../line/line-record.ts';
import { lockPrefix } from '../../../names.ts';
import type { CommonOptions } from '../../connection.ts';
import { exitCodes } from '../../exit-codes.ts';
import type { JsonObject } from '../../output/json.ts';
import { Output, type View } from '../../output/output.ts';
import { field } from '../../output/table.ts';
import { asVerb } from '../../verb.ts';
import { withClient } from '../../with-client.ts';

const view: View = {
  columns: [
    field('#', 'position'),
    field('ROLE', 'role'),
    field('SINCE', 'since'),
    field('SESSION', 'session'),
    {
      title: 'WHO',
      of: (row) =>
        Object.entries(row['meta'] as Readonly<Record<string, string>>)
          .map(([name, value]) => `${name}=${value}`)
          .join(' '),
    },
  ],
};

const memberJson = (member: LineEntry, index: number): JsonObject => ({
  position: index + 1,
  role: index === 0 ? 'holder' : 'waiting',
  since: member.since.toISOString(),
  session: member.session,
  key: member.key,
  createRevision: `${member.createRevision}`,
  meta: member.meta,
});

async function show(name: string, options: CommonOptions): Promise<void> {
  const output = new Output(options.output);
  await withClient(options, async ({ kv }) => {
    const { kvs, revision } = await kv.list({ prefix: lockPrefix(name) });
    const rows = inLineOrder(kvs).map(lineEntry).map(memberJson);
    const [holder = null, ...waiters] = rows;
    await output.print({ name, holder, waiters, revision: `${revision}` }, rows, view);
    if (holder === null) process.exitCode = exitCodes.notFound;
  });
}

export function define(command: Command): void {
  asVerb(command, [
    ['conclave locks show deploy/prod', 'exit code 3 when nobody holds it'],
    [
      'conclave lease revoke $(conclave locks show deploy/prod -o json | jq -r .holder.session)',
      'takes the lock away from its holder, whose command is killed',
    ],
  ])
    .argument('<name>', 'the lock')
    .action(show);
}
