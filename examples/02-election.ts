/** One leader at a time, and the others know who. */
import { hostname } from 'node:os';
import { connect, json } from 'conclave';

type Node = { readonly host: string; readonly pid: number };

await using conclave = await connect({ directory: process.env['CONCLAVE_EXAMPLE'] ?? '.conclave' });
await using session = await conclave.session({ ttl: '10s' });
const election = session.election('examples/scheduler', { codec: json<Node>() });

const watching = election.leader$.subscribe((leader) =>
  console.log(leader === null ? 'nobody leads' : `process ${leader.value.pid} leads`),
);

const me = { host: hostname(), pid: process.pid };
await using leadership = await election.campaign({ value: me, timeout: '1m' });
console.log(`elected in term ${leadership.term}`);
await leadership.proclaim({ ...me, host: 'another name' });
await leadership.resign();
watching.unsubscribe();
