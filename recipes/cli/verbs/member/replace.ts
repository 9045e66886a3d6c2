/**
 * One member for another, without a moment in which the cluster survives fewer failures than before:
 * the new one joins as a learner, and takes the vote of the old one only when it has caught up.
 * Interrupted and given again, it goes on where it was.
 */
import { type Command, Option } from 'commander';
import type { ClusterApi, ClusterMember } from '../../../../sdk/cluster.ts';
import { hexId } from '../../../../sdk/hex-id.ts';
import { durationOption, idOption } from '../../arguments.ts';
import type { CommonOptions } from '../../connection.ts';
import { exitCodes } from '../../exit-codes.ts';
import { CliError } from '../../failure.ts';
import { Output } from '../../output/output.ts';
import { note } from '../../stderr.ts';
import { asVerb } from '../../verb.ts';
import { withClient } from '../../with-client.ts';
import { onceCaughtUp } from './catching-up.ts';
import { initialCluster, sayHowToStart } from './joining.ts';
import { peerUrlsOption } from './peer-urls.ts';
import { memberJson, memberView } from './view.ts';

type ReplaceOptions = CommonOptions & {
  readonly peerUrls: readonly string[];
  readonly wait: number;
};

const WAIT_MS = 10 * 60_000;

const hasUrls = (member: ClusterMember, urls: readonly string[]): boolean =>
  member.peerUrls.length === urls.length && urls.every((url) => member.peerUrls.includes(url));

function find(
  members: readonly ClusterMember[],
  old: bigint,
): { readonly outgoing: ClusterMember; readonly voters: number } {
  const outgoing = members.find(({ id }) => id === old);
  if (outgoing === undefined) {
    throw new CliError(
      `there is no member ${hexId(old)}`,
      exitCodes.notFound,
      'conclave member list prints the ids',
    );
  }
  if (outgoing.isLearner) {
    throw new CliError(
      `member ${hexId(old)} is a learner, which no majority counts on`,
      exitCodes.failed,
      `remove it with: conclave member remove ${hexId(old)}`,
    );
  }
  return { outgoing, voters: members.filter(({ isLearner }) => !isLearner).length };
}

/** The learner of an earlier, interrupted attempt, or a new one. */
async function incoming(
  cluster: ClusterApi,
  members: readonly ClusterMember[],
  name: string,
  peerUrls: readonly string[],
): Promise<ClusterMember> {
  const present = members.find((member) => hasUrls(member, peerUrls));
  if (present === undefined) {
    const added = await cluster.addMember(peerUrls, { learner: true });
    const others = initialCluster(await cluster.members(), added, name);
    note(`added ${hexId(added.id)} as a learner`);
    sayHowToStart(name, added.peerUrls, others);
    return added;
  }
  if (present.isLearner) {
    note(`going on with the learner ${hexId(present.id)}, which has these addresses`);
    return present;
  }
  throw new CliError(
    `member ${hexId(present.id)} has these addresses and is a voter already`,
    exitCodes.failed,
    'give the addresses of the member that shall come in its place',
  );
}

async function replace(old: bigint, name: string, options: ReplaceOptions): Promise<void> {
  const output = new Output(options.output);
  await withClient(options, async ({ cluster }) => {
    const members = await cluster.members();
    const { voters } = find(members, old);
    const learner = await incoming(cluster, members, name, options.peerUrls);
    await onceCaughtUp(
      () => cluster.replaceMember(learner.id, old),
      options.wait,
      () => note(`waiting until it has caught up; ${voters} members go on deciding meanwhile`),
    );
    const now = (await cluster.members()).find(({ id }) => id === learner.id) ?? learner;
    await output.printOne({ ...memberJson(now), replaced: hexId(old) }, memberView);
  });
}

export function define(command: Command): void {
  asVerb(command, [
    [
      'conclave member replace 8e9e05c52164694d d --peer-urls http://10.0.0.4:2380',
      'd joins as a learner, catches up, and takes over the vote; then the old one is removed',
    ],
  ])
    .argument('<id>', 'the member that goes, as member list prints it', idOption)
    .argument('<name>', 'the name that the new one will be started with')
    .requiredOption(
      '--peer-urls <list>',
      'where the other members will reach the new one, as http://host:port',
      peerUrlsOption,
    )
    .addOption(
      new Option('--wait <duration>', 'how long the new one may take to start and catch up')
        .argParser(durationOption)
        .default(WAIT_MS, '10m'),
    )
    .action(replace);
}
