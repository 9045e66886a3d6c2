/** An instance of a service: registers, and stays until it is stopped or killed. */
import { connect } from '../../recipes/index.ts';
import { report, requiredVariable } from './processes.ts';

await using conclave = await connect(requiredVariable('TOUR_ENDPOINT'));
const session = await conclave.session({ ttl: requiredVariable('TOUR_TTL') });
const registration = await session.discovery('tour-api').register({
  id: `instance-${process.pid}`,
  address: `127.0.0.1:${process.pid}`,
});
await report({ kind: 'registered' });
await new Promise<void>((resolve) => {
  process.once('SIGTERM', () => resolve());
});
await registration.deregister();
await session.close();
process.disconnect();
