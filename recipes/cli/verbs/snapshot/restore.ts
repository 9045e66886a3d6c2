import { type Command, InvalidArgumentError } from 'commander';
import { addOutputOption, type OutputOptions } from '../../connection.ts';
import { exitCodes } from '../../exit-codes.ts';
import { CliError, usageError } from '../../failure.ts';
import { Output, type View } from '../../output/output.ts';
import { field } from '../../output/table.ts';
import { note } from '../../stderr.ts';
import { addExamples } from '../../verb.ts';
import { peerUrlsOption } from '../member/peer-urls.ts';

type Founder = { readonly name: string; readonly peerUrls: readonly string[] };

type RestoreFlags = OutputOptions & {
  readonly dataDir: string;
  readonly name: string;
  readonly initialClusterToken: string;
  readonly initialCluster?: readonly Founder[];
};

const view: View = {
  columns: [field('DIRECTORY', 'directory'), field('APPLIED INDEX', 'appliedIndex')],
};

/** `a=http://10.0.0.1:2380,b=...`, as --initial-cluster of serve; a name may occur once per address. */
function clusterOption(text: string): readonly Founder[] {
  const founders = new Map<string, string[]>();
  for (const part of text.split(',')) {
    const [, name, url] = /^([^=]+)=(.+)$/.exec(part) ?? [];
    if (name === undefined || url === undefined) {
      throw new InvalidArgumentError(
        `It must be name=http://host:port of every member, with commas between; '${part}' is not.`,
      );
    }
    founders.set(name, [...(founders.get(name) ?? []), ...peerUrlsOption(url)]);
  }
  return [...founders].map(([name, peerUrls]) => ({ name, peerUrls }));
}

async function restore(file: string, flags: RestoreFlags): Promise<void> {
  const output = new Output(flags.output);
  // The server, and LMDB with it, is loaded only by the verbs that need it.
  const { restoreMember } = await import('../../../../server/index.ts');
  const { initialCluster } = flags;
  if (initialCluster !== undefined && !initialCluster.some(({ name }) => name === flags.name)) {
    throw usageError(
      `cannot use --name '${flags.name}': it must be one of --initial-cluster, ${initialCluster.map(({ name }) => name).join(', ')}`,
    );
  }
  const options = {
    ...(initialCluster === undefined ? {} : { initialCluster }),
    file,
    directory: flags.dataDir,
    name: flags.name,
    clusterToken: flags.initialClusterToken,
  };
  const restored = await restoreMember(options).catch((error: unknown) => {
    const isKnown = error instanceof Error && 'code' in error;
    throw isKnown ? new CliError(error.message, exitCodes.failed) : error;
  });
  note('revisions go on from the snapshot: stop whoever still holds a lock or term from after it');
  await output.printOne(
    { directory: flags.dataDir, appliedIndex: `${restored.appliedIndex}` },
    view,
  );
}

export function define(command: Command): void {
  addExamples(addOutputOption(command), [
    ['conclave snapshot restore backup.db --data-dir ./restored', 'then serve from it'],
    ['conclave serve --data-dir ./restored', 'with the same --name'],
    [
      'conclave snapshot restore backup.db --data-dir ./a --name a --initial-cluster a=http://10.0.0.1:2380,b=http://10.0.0.2:2380,c=http://10.0.0.3:2380',
      'on each machine from the same file; then serve with the same list',
    ],
  ])
    .argument('<file>', 'a snapshot, as written by snapshot save')
    .requiredOption('--data-dir <dir>', 'where the data goes; must not hold a store yet')
    .option('--name <name>', 'the name of the member that will serve it', 'default')
    .option(
      '--initial-cluster-token <token>',
      'the token that it will be served with',
      'etcd-cluster',
    )
    .option(
      '--initial-cluster <list>',
      'every member of the new cluster as name=http://host:port (default: this one alone)',
      clusterOption,
    )
    .action(restore);
}
