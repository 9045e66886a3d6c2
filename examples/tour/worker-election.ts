/** A candidate: campaigns, and leads until it is killed. */
import { connect, json } from '../../recipes/index.ts';
import { report, requiredVariable } from './processes.ts';

export type ElectionReport =
  | { readonly kind: 'campaigning' }
  | { readonly kind: 'elected'; readonly term: string };

await using conclave = await connect(requiredVariable('TOUR_ENDPOINT'));
const session = await conclave.session({ ttl: requiredVariable('TOUR_TTL') });
const election = session.election('tour/leader', { codec: json<number>() });

await report({ kind: 'campaigning' });
await using leadership = await election.campaign({ value: process.pid });
await report({ kind: 'elected', term: String(leadership.term) });
await new Promise<void>((resolve) => {
  process.once('SIGTERM', () => resolve());
});
await leadership.resign();
await session.close();
process.disconnect();
