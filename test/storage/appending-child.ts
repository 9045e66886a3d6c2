/** Appends as fast as it can, in a log of its own, and prints the last index each time it may. */
import { openWal } from '../../server/storage/wal.ts';

const [path = ''] = process.argv.slice(2);
const { log, recovered } = await openWal({
  path,
  identity: { clusterId: 1n, memberId: 2n },
  segmentBytes: 64 * 1024,
});
let last = recovered.start.index + recovered.entries.length;
for (;;) {
  const entries = Array.from({ length: 1 + (last % 3) }, (_, position) => {
    const index = last + position + 1;
    return { index, term: 1, kind: 'command' as const, data: Buffer.alloc(index % 500, index) };
  });
  await log.append({ entries, hardState: { term: 1, votedFor: 2n, commit: last } });
  last += entries.length;
  process.stdout.write(`${last}\n`);
}
