import type { Command } from 'commander';
import type { CommonOptions } from '../../connection.ts';
import { Output } from '../../output/output.ts';
import { asVerb } from '../../verb.ts';
import { withClient } from '../../with-client.ts';
import { initialCluster, sayHowToStart } from './joining.ts';
import { peerUrlsOption } from './peer-urls.ts';
import { memberJson, memberView } from './view.ts';

type AddOptions = CommonOptions & {
  readonly peerUrls: readonly string[];
  readonly voter?: boolean;
};

async function add(name: string, options: AddOptions): Promise<void> {
  const output = new Output(options.output);
  await withClient(options, async ({ cluster }) => {
    // Listed before: a first member that gets a second voter answers nothing until that one runs.
    const members = await cluster.members();
    const added = await cluster.addMember(options.peerUrls, { learner: options.voter !== true });
    const others = initialCluster(members, added, name);
    await output.printOne(
      { ...memberJson(added), name, initialCluster: others, initialClusterState: 'existing' },
      memberView,
    );
    sayHowToStart(name, added.peerUrls, others);
  });
}

export function define(command: Command): void {
  asVerb(command, [
    [
      'conclave member add d --peer-urls http://10.0.0.4:2380',
      'as a learner, which holds the data and has no vote; then: conclave member promote ID',
    ],
  ])
    .argument('<name>', 'the name it will be started with')
    .requiredOption(
      '--peer-urls <list>',
      'where the other members will reach it, as http://host:port',
      peerUrlsOption,
    )
    .option('--voter', 'with a vote at once: a majority then counts on it before it has any data')
    .action(add);
}
