import type { Command } from 'commander';
import { idOption, readStdin } from '../../arguments.ts';
import type { CommonOptions } from '../../connection.ts';
import { usageError } from '../../failure.ts';
import type { JsonObject } from '../../output/json.ts';
import { keyValueJson } from '../../output/json.ts';
import { Output, type View } from '../../output/output.ts';
import { field } from '../../output/table.ts';
import { bytesOf } from '../../output/views.ts';
import { asVerb } from '../../verb.ts';
import { withClient } from '../../with-client.ts';

type Options = CommonOptions & {
  readonly lease?: bigint;
  readonly prevKv?: boolean;
  readonly ignoreValue?: boolean;
  readonly ignoreLease?: boolean;
};

const view: View = { columns: [field('REVISION', 'revision')] };

const previousView: View = {
  columns: [...view.columns, { title: 'PREVIOUS', of: (row) => previousOf(row).toString('utf8') }],
  raw: previousOf,
};

function previousOf(row: JsonObject): Buffer {
  const previous = row['previous'];
  return previous === null ? Buffer.alloc(0) : bytesOf(previous as JsonObject, 'value');
}

async function readValue(value: string | undefined, options: Options): Promise<string | Buffer> {
  if (options.ignoreValue) {
    if (value !== undefined) throw usageError('--ignore-value takes no VALUE');
    return '';
  }
  if (value !== undefined && value !== '-') return value;
  if (value === undefined && process.stdin.isTTY) {
    throw usageError("VALUE is missing; '-' reads it from the terminal");
  }
  return await readStdin();
}

async function put(key: string, value: string | undefined, options: Options): Promise<void> {
  const output = new Output(options.output);
  if (options.lease !== undefined && options.ignoreLease) {
    throw usageError('--lease and --ignore-lease exclude each other');
  }
  const bytes = await readValue(value, options);
  await withClient(options, async ({ kv }) => {
    const { revision, previous } = await kv.put(key, bytes, {
      prevKv: options.prevKv ?? false,
      ignoreValue: options.ignoreValue ?? false,
      ignoreLease: options.ignoreLease ?? false,
      ...(options.lease === undefined ? {} : { lease: options.lease }),
    });
    const document = {
      revision: `${revision}`,
      previous: previous === undefined ? null : keyValueJson(previous),
    };
    await output.printOne(document, options.prevKv ? previousView : view);
  });
}

export function define(command: Command): void {
  asVerb(command, [
    ['conclave kv put config/port 8080', 'prints the revision of the write'],
    ['conclave kv put cert < cert.pem', 'the value from stdin, byte for byte'],
    ['conclave kv put nodes/a up --lease 694d8b2ff3d0a103', 'goes when the lease goes'],
  ])
    .argument('<key>', 'the key')
    .argument('[value]', "the value; '-' or nothing reads it from stdin")
    .option('--lease <id>', 'tie the key to this lease', idOption)
    .option('--prev-kv', 'print what the key held before')
    .option('--ignore-value', 'keep the value; the key must exist')
    .option('--ignore-lease', 'keep the lease; the key must exist')
    .action(put);
}
