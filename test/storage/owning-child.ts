/** Owns a data directory until it is killed. */
import { openDataDirectory } from '../../server/storage/data-directory.ts';

const [path = ''] = process.argv.slice(2);
await openDataDirectory({
  path,
  identity: { name: 'child', clusterId: 1n, memberId: 2n },
  onFailure: (error) => {
    throw error;
  },
});
process.stdout.write('open\n');
setInterval(() => {}, 60_000);
