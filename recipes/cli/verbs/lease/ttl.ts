import type { Command } from 'commander';
import { ConclaveError } from '../../../../sdk/errors.ts';
import { hexId } from '../../../../sdk/hex-id.ts';
import { idOption } from '../../arguments.ts';
import type { CommonOptions } from '../../connection.ts';
import { bytesFields } from '../../output/json.ts';
import { Output, type View } from '../../output/output.ts';
import { field } from '../../output/table.ts';
import { asVerb } from '../../verb.ts';
import { withClient } from '../../with-client.ts';

const view: View = {
  columns: [field('LEASE', 'id'), field('TTL MS', 'ttlMs'), field('GRANTED MS', 'grantedTtlMs')],
};

const keysView: View = { columns: [...view.columns, field('KEYS', 'keys')] };

async function ttl(
  id: bigint,
  options: CommonOptions & { readonly keys?: boolean },
): Promise<void> {
  const output = new Output(options.output);
  await withClient(options, async ({ leases }) => {
    const lease = await leases.timeToLive(id, { keys: options.keys ?? false });
    if (lease === null) {
      throw new ConclaveError('LEASE_NOT_FOUND', `The lease ${hexId(id)} does not exist`);
    }
    await output.printOne(
      {
        id: hexId(lease.id),
        ttlMs: lease.ttlMs,
        grantedTtlMs: lease.grantedTtlMs,
        keys: lease.keys.map((key) => bytesFields('key', key)),
      },
      options.keys ? keysView : view,
    );
  });
}

export function define(command: Command): void {
  asVerb(command, [
    ['conclave lease ttl 694d8b2ff3d0a103 --keys', 'the time left, and the keys that go with it'],
  ])
    .argument('<id>', 'the lease', idOption)
    .option('--keys', 'also the attached keys')
    .action(ttl);
}
