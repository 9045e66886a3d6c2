import type { Command } from 'commander';
import type { ClusterApi, MemberStatus } from '../../../sdk/cluster.ts';
import { hexId } from '../../../sdk/hex-id.ts';
import type { CommonOptions } from '../connection.ts';
import { exitCodes } from '../exit-codes.ts';
import { report } from '../failure.ts';
import type { JsonObject } from '../output/json.ts';
import { Output, type View } from '../output/output.ts';
import { field } from '../output/table.ts';
import { asVerb } from '../verb.ts';
import { withClient } from '../with-client.ts';

const view: View = {
  columns: [
    field('ENDPOINT', 'endpoint'),
    field('MEMBER', 'memberId'),
    field('ROLE', 'role'),
    field('VERSION', 'version'),
    field('REVISION', 'revision'),
    field('TERM', 'raftTerm'),
    field('APPLIED', 'raftAppliedIndex'),
    field('SIZE', 'sizeBytes'),
    field('IN USE', 'usedBytes'),
    { title: 'TROUBLE', of: (row) => (row['errors'] as readonly string[]).join('; ') },
  ],
};

function roleOf(status: MemberStatus): string {
  if (status.isLearner) return 'learner';
  if (status.leader === 0n) return 'no leader';
  return status.leader === status.memberId ? 'leader' : 'follower';
}

const statusJson = (endpoint: string, status: MemberStatus): JsonObject => ({
  endpoint,
  memberId: hexId(status.memberId),
  clusterId: hexId(status.clusterId),
  role: roleOf(status),
  leader: status.leader === 0n ? null : hexId(status.leader),
  version: status.version,
  revision: `${status.revision}`,
  raftTerm: `${status.raftTerm}`,
  raftIndex: `${status.raftIndex}`,
  raftAppliedIndex: `${status.raftAppliedIndex}`,
  sizeBytes: `${status.sizeBytes}`,
  usedBytes: `${status.usedBytes}`,
  quotaBytes: status.quotaBytes === 0n ? null : `${status.quotaBytes}`,
  errors: status.errors,
});

async function statuses(cluster: ClusterApi): Promise<JsonObject[]> {
  const answers = await Promise.allSettled(
    cluster.endpoints.map(async (endpoint) =>
      statusJson(endpoint, await cluster.status({ endpoint })),
    ),
  );
  const rows: JsonObject[] = [];
  for (const answer of answers) {
    if (answer.status === 'fulfilled') rows.push(answer.value);
    else process.exitCode = report(answer.reason);
  }
  return rows;
}

async function status(options: CommonOptions): Promise<void> {
  const output = new Output(options.output);
  await withClient(options, async ({ cluster }) => {
    const members = await statuses(cluster);
    await output.print({ members }, members, view);
    const leaderless = members.some((member) => member['leader'] === null);
    if (leaderless) process.exitCode ??= exitCodes.unreachable;
  });
}

export function define(command: Command): void {
  asVerb(command, [
    [
      'conclave status --endpoints a:2379,b:2379,c:2379',
      'asks every endpoint; exit code 5 when one does not answer or has no leader',
    ],
  ]).action(status);
}
