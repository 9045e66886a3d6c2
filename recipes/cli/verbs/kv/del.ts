import type { Command } from 'commander';
import { type RangeOptions, selectRange } from '../../arguments.ts';
import type { CommonOptions } from '../../connection.ts';
import { usageError } from '../../failure.ts';
import { keyValueJson } from '../../output/json.ts';
import { Output, type View } from '../../output/output.ts';
import { field } from '../../output/table.ts';
import { keyValueView } from '../../output/views.ts';
import { asVerb } from '../../verb.ts';
import { withClient } from '../../with-client.ts';

type Options = CommonOptions & RangeOptions & { readonly prevKv?: boolean; readonly yes?: boolean };

const view: View = { columns: [field('DELETED', 'deleted'), field('REVISION', 'revision')] };

async function del(key: string | undefined, options: Options): Promise<void> {
  const output = new Output(options.output);
  const range = selectRange(key, options);
  if (typeof range === 'object' && 'all' in range && !options.yes) {
    throw usageError('this deletes every key of the store: add --yes if that is meant');
  }
  await withClient(options, async ({ kv }) => {
    const result = await kv.delete(range, { prevKv: options.prevKv ?? false });
    const previous = result.previous.map(keyValueJson);
    const document = {
      deleted: `${result.deleted}`,
      revision: `${result.revision}`,
      previous,
    };
    if (options.prevKv) await output.print(document, previous, keyValueView);
    else await output.printOne(document, view);
  });
}

export function define(command: Command): void {
  asVerb(command, [
    ['conclave kv del config/port', 'succeeds also when there was nothing to delete'],
    ['conclave kv del cache/ --prefix --prev-kv', 'prints what was deleted'],
  ])
    .argument('[key]', 'the key, or where the range starts')
    .option('--prefix', 'every key that starts with KEY')
    .option('--from', 'every key from KEY on')
    .option('--to <key>', 'every key from KEY up to this one, which is left out')
    .option('--all', 'every key; needs --yes')
    .option('--yes', 'go ahead without asking')
    .option('--prev-kv', 'print what was deleted')
    .action(del);
}
