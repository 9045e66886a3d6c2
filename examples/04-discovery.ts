/** Where the live instances are. */
import { connect } from 'conclave';

type Meta = { readonly zone: string };

await using conclave = await connect({ directory: process.env['CONCLAVE_EXAMPLE'] ?? '.conclave' });
await using session = await conclave.session({ ttl: '10s' });
const users = session.discovery<Meta>('examples/users');

const registration = await users.register({ address: '10.0.0.7:8080', meta: { zone: 'eu-1' } });
const pool = users.pool();
await pool.ready();

const picked = pool.pick();
console.log(`call ${picked?.instance.address} in ${picked?.instance.meta.zone}`);
picked?.release();

await registration.deregister();
console.log('gone again');
await pool.close();
