import type { Command } from 'commander';
import { readInstance } from '../../discovery/instance.ts';
import { servicePrefix } from '../../names.ts';
import type { CommonOptions } from '../connection.ts';
import { exitCodes } from '../exit-codes.ts';
import type { Json, JsonObject } from '../output/json.ts';
import { Output, type View } from '../output/output.ts';
import { field } from '../output/table.ts';
import { asVerb } from '../verb.ts';
import { withClient } from '../with-client.ts';

const view: View = {
  columns: [
    field('ID', 'id'),
    field('ADDRESS', 'address'),
    field('STATUS', 'status'),
    field('WEIGHT', 'weight'),
    field('META', 'meta'),
  ],
};

async function services(name: string, options: CommonOptions): Promise<void> {
  const output = new Output(options.output);
  await withClient(options, async ({ kv }) => {
    const prefix = servicePrefix(name);
    const { kvs, revision } = await kv.list({ prefix });
    const instances = kvs.flatMap((entry): JsonObject[] => {
      const instance = readInstance<Json>(prefix, entry);
      if (instance === undefined) return [];
      const { id, address, status, weight, meta } = instance;
      return [{ id, address, status, weight, meta: meta ?? null }];
    });
    await output.print({ service: name, instances, revision: `${revision}` }, instances, view);
    if (instances.length === 0) process.exitCode = exitCodes.notFound;
  });
}

export function define(command: Command): void {
  asVerb(command, [
    ['conclave services users', 'exit code 3 when there is none'],
    ["conclave services users -o 'template={{address}}'", 'the addresses alone'],
  ])
    .argument('<name>', 'the service')
    .action(services);
}
