/** A process that takes a lock, adds to a number in a file a few times, and lets go, until it is killed. */
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { connect, isConclaveError } from '../../../recipes/index.ts';
import { childSettings } from './children.ts';
import type { Answer, LockSettings } from './lock.ts';

const { endpoints, lock } = childSettings<LockSettings>();
const conclave = await connect(endpoints);
process.on('disconnect', () => process.exit());

/** Asks the keeper of the file, which alone decides whether a token may still write. */
async function ask(question: Record<string, unknown>): Promise<Answer> {
  process.send?.(question);
  const [answer] = await once(process, 'message');
  return answer as Answer;
}

process.send?.({ kind: 'at-work' });
for (;;) {
  try {
    await using session = await conclave.session({ ttl: '1s' });
    const mutex = session.mutex(lock);
    while (session.state !== 'lost') {
      const hold = await mutex.acquire();
      // Looks at nothing but the answers of the file: what a frozen process believes is the point.
      for (let write = 0; write < 5; write++) {
        const { value } = await ask({ kind: 'read' });
        // Where it is likely to be frozen.
        await delay(10);
        const { accepted } = await ask({
          kind: 'write',
          token: `${hold.token}`,
          value: value + 1,
        });
        if (!accepted) break;
      }
      await hold.release();
    }
  } catch (error) {
    if (!isConclaveError(error)) throw error;
  }
}
