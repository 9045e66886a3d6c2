/** One holder at a time. Run it in two terminals: `node dist/examples/01-lock.js` */
import { setTimeout as work } from 'node:timers/promises';
import { connect } from 'conclave';

await using conclave = await connect({ directory: process.env['CONCLAVE_EXAMPLE'] ?? '.conclave' });
await using session = await conclave.session({ ttl: '15s' });
const mutex = session.mutex('examples/orders');

console.log('waiting for the lock');
await using hold = await mutex.acquire({
  timeout: '1m',
  meta: { pid: String(process.pid) },
  onPosition: (position) => console.log(`${position} before us`),
});
console.log(`holding it, token ${hold.token}`);

// Aborts when the lock is lost: pass it to whatever you do under the lock.
await work(200, undefined, { signal: hold.signal });

// A write that happens only if the lock is still ours, decided by the store itself.
const written = await hold.guard(conclave.kv.txn()).then().commit();
console.log(`still the holder: ${written.succeeded}`);
