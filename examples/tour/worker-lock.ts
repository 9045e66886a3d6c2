/** One of several processes that compete for a mutex and change the ledger while they hold it. */
import { once } from 'node:events';
import { connect } from '../../recipes/index.ts';
import { writeLine } from './ledger.ts';
import { report, requiredVariable } from './processes.ts';

export type LockReport =
  | { readonly kind: 'turn'; readonly outcome: 'written' | 'refused' | 'overlap' }
  | { readonly kind: 'holding' }
  | {
      readonly kind: 'late';
      readonly outcome: 'written' | 'refused' | 'overlap';
      readonly lost: boolean;
    }
  | { readonly kind: 'done' };

const path = requiredVariable('TOUR_LEDGER');
const rounds = Number(requiredVariable('TOUR_ROUNDS'));
const ttl = requiredVariable('TOUR_TTL');
const sleepy = requiredVariable('TOUR_SLEEPY') === 'yes';

await using conclave = await connect(requiredVariable('TOUR_ENDPOINT'));
const session = await conclave.session({ ttl });
const mutex = session.mutex('tour/ledger');

if (sleepy) {
  // Stopped by the tour while it holds the lock, woken long after its session has expired, and
  // careless: it writes without looking at `hold.signal`. Only the token can keep it out.
  const hold = await mutex.acquire();
  await report({ kind: 'holding' });
  await once(process, 'message');
  const outcome = await writeLine(path, hold.token, process.pid);
  await report({ kind: 'late', outcome, lost: !hold.isHeld });
} else {
  for (let round = 0; round < rounds; round++) {
    await using hold = await mutex.acquire();
    const outcome = await writeLine(path, hold.token, process.pid);
    await report({ kind: 'turn', outcome });
  }
  await session.close();
}
await report({ kind: 'done' });
process.disconnect();
