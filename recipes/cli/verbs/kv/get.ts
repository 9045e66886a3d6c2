import type { Command } from 'commander';
import type { ListFields } from '../../../../sdk/kv.ts';
import { countOption, type RangeOptions, revisionOption, selectRange } from '../../arguments.ts';
import type { CommonOptions } from '../../connection.ts';
import { exitCodes } from '../../exit-codes.ts';
import { type JsonObject, keyValueJson } from '../../output/json.ts';
import { Output, type View } from '../../output/output.ts';
import { field } from '../../output/table.ts';
import { bytesColumn, bytesOf, keyValueView } from '../../output/views.ts';
import { asVerb } from '../../verb.ts';
import { withClient } from '../../with-client.ts';
import { orderOption } from './order.ts';

type Options = CommonOptions &
  RangeOptions & {
    readonly limit?: number;
    readonly rev?: bigint;
    readonly keysOnly?: boolean;
    readonly countOnly?: boolean;
    readonly serializable?: boolean;
    readonly order?: NonNullable<ListFields['order']>;
    readonly descending?: boolean;
  };

const keyView: View = { columns: [bytesColumn('KEY', 'key')], raw: (row) => bytesOf(row, 'key') };
const countView: View = { columns: [field('COUNT', 'count')] };

async function get(key: string | undefined, options: Options): Promise<void> {
  const output = new Output(options.output);
  const range = selectRange(key, options);
  const read = {
    ...(options.rev === undefined ? {} : { revision: options.rev }),
    serializable: options.serializable ?? false,
  };
  await withClient(options, async ({ kv }) => {
    if (options.countOnly) {
      const count = await kv.count(range, read);
      await output.printOne({ count: `${count}` }, countView);
      return;
    }
    const found = await kv.list(range, {
      ...read,
      keysOnly: options.keysOnly ?? false,
      descending: options.descending ?? false,
      ...(options.limit === undefined ? {} : { limit: options.limit }),
      ...(options.order === undefined ? {} : { order: options.order }),
    });
    const rows: JsonObject[] = found.kvs.map(keyValueJson);
    const document = {
      kvs: rows,
      count: `${found.count}`,
      more: found.more,
      revision: `${found.revision}`,
    };
    const view = options.keysOnly ? keyView : keyValueView;
    const several = rows.length > 1 || typeof range !== 'string';
    await output.print(document, rows, several ? lines(view) : view);
    if (rows.length === 0 && typeof range === 'string') process.exitCode = exitCodes.notFound;
  });
}

/** Raw output of many keys puts each on its own line; that of one key is its bytes alone. */
const lines = (view: View): View => ({
  columns: view.columns,
  raw: (row) => Buffer.concat([Buffer.from(view.raw?.(row) ?? ''), Buffer.from('\n')]),
});

export function define(command: Command): void {
  asVerb(command, [
    ['conclave kv get config/port', 'one key; exit code 3 when it does not exist'],
    ['conclave kv get config/port -o raw > port', 'its bytes and nothing else'],
    ['conclave kv get config/ --prefix --keys-only', 'what is below a prefix'],
    ['conclave kv get a --to c --rev 4711', 'a range [a, c) as it was at a revision'],
    ["conclave kv get --all -o 'template={{key}}={{value}}'", 'everything, in a form of your own'],
  ])
    .argument('[key]', 'the key, or where the range starts')
    .option('--prefix', 'every key that starts with KEY')
    .option('--from', 'every key from KEY on')
    .option('--to <key>', 'every key from KEY up to this one, which is left out')
    .option('--all', 'every key')
    .option('--limit <n>', 'at most so many', countOption(1))
    .option('--rev <revision>', 'as of this revision', revisionOption)
    .option('--keys-only', 'leave the values out')
    .option('--count-only', 'only how many there are')
    .option('--serializable', 'let the contacted member answer alone; may be old')
    .addOption(orderOption())
    .option('--descending', 'largest first')
    .action(get);
}
