import type { Command } from 'commander';
import type { Codec } from '../../../sdk/codec.ts';
import { type Instance, readInstance } from '../../discovery/instance.ts';
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
    field('SINCE', 'statusSince'),
    field('ZONE', 'zone'),
    field('WEIGHT', 'weight'),
    field('META', 'meta'),
    field('REASON', 'reason'),
  ],
};

const describe = (instance: Instance<Json | undefined>): JsonObject => ({
  id: instance.id,
  address: instance.address,
  status: instance.status,
  statusSince: instance.statusSince.toISOString(),
  registeredAt: instance.registeredAt.toISOString(),
  zone: instance.zone ?? null,
  weight: instance.weight,
  meta: instance.meta ?? null,
  reason: instance.reason ?? null,
});

/** Metadata in the format of a program that is not known here is shown as text. */
const asWritten: Codec<Json | undefined> = {
  encode: (meta) => JSON.stringify(meta),
  decode: (data) => {
    const written = Buffer.from(data).toString('utf8');
    try {
      return JSON.parse(written);
    } catch {
      return written;
    }
  },
};

async function services(name: string, options: CommonOptions): Promise<void> {
  const output = new Output(options.output);
  await withClient(options, async ({ kv }) => {
    const prefix = servicePrefix(name);
    const { kvs, revision } = await kv.list({ prefix });
    const instances = kvs.flatMap((entry): JsonObject[] => {
      const instance = readInstance<Json | undefined>(prefix, entry, asWritten);
      if (instance === undefined) return [];
      return [describe(instance)];
    });
    await output.print({ service: name, instances, revision: `${revision}` }, instances, view);
    if (instances.length === 0) process.exitCode = exitCodes.notFound;
  });
}

export function define(command: Command): void {
  asVerb(command, [
    ['conclave services users', 'exit code 3 when there is none'],
    [
      "conclave services users -o 'template={{status}} {{address}}'",
      'a line for each, for scripts',
    ],
  ])
    .argument('<name>', 'the service')
    .action(services);
}
