/** The store itself: revisions, transactions and watches. */
import { compare, connect, op } from 'conclave';

await using conclave = await connect({ directory: process.env['CONCLAVE_EXAMPLE'] ?? '.conclave' });
const { kv } = conclave;

const { revision } = await kv.put('examples/config', 'one');
const change = await kv
  .txn()
  .if(compare.modRevision('examples/config', '==', revision))
  .then(op.put('examples/config', 'two'), op.get('examples/config'))
  .else(op.get('examples/config'))
  .commit();
console.log(`changed: ${change.succeeded}`);

const before = await kv.get('examples/config', { revision });
console.log(`at revision ${revision} it was ${before && Buffer.from(before.value)}`);

// From a revision in the past: nothing that happened since is missed.
await using watch = kv.watch({ prefix: 'examples/' }, { from: revision });
for await (const notice of watch) {
  if (notice.type !== 'events') continue;
  for (const event of notice.events) {
    console.log(event.type, event.kv.key, Buffer.from(event.kv.value).toString());
  }
  if (notice.revision >= change.revision) break;
}
