import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { orAborted, Waiting } from '../../server/waiting.ts';

test('a promise given up before it began is still handled when it is rejected', async () => {
  const unhandled: unknown[] = [];
  const listener = (reason: unknown) => unhandled.push(reason);
  process.on('unhandledRejection', listener);
  const waiting = new Waiting<void>();
  const given = orAborted(waiting.wait(1), AbortSignal.abort(new Error('gone')));
  await expect(given).rejects.toThrow('gone');
  waiting.rejectAll('stopped');
  await turn();
  await turn();
  process.off('unhandledRejection', listener);
  expect(unhandled).toEqual([]);
});
