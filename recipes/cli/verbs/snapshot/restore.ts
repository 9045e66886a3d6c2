import type { Command } from 'commander';
import { addOutputOption, type OutputOptions } from '../../connection.ts';
import { exitCodes } from '../../exit-codes.ts';
import { CliError } from '../../failure.ts';
import { Output, type View } from '../../output/output.ts';
import { field } from '../../output/table.ts';
import { note } from '../../stderr.ts';
import { addExamples } from '../../verb.ts';

type RestoreFlags = OutputOptions & {
  readonly dataDir: string;
  readonly name: string;
  readonly initialClusterToken: string;
};

const view: View = {
  columns: [field('DIRECTORY', 'directory'), field('APPLIED INDEX', 'appliedIndex')],
};

async function restore(file: string, flags: RestoreFlags): Promise<void> {
  const output = new Output(flags.output);
  // The server, and LMDB with it, is loaded only by the verbs that need it.
  const { restoreMember } = await import('../../../../server/index.ts');
  const options = {
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
  ])
    .argument('<file>', 'a snapshot, as written by snapshot save')
    .requiredOption('--data-dir <dir>', 'where the data goes; must not hold a store yet')
    .option('--name <name>', 'the name of the member that will serve it', 'default')
    .option(
      '--initial-cluster-token <token>',
      'the token that it will be served with',
      'etcd-cluster',
    )
    .action(restore);
}
