/** The runner of machines, by a machine that only takes note. */
import { expect, test } from 'vitest';
import { MachineRunner } from '../../recipes/common/machine-runner.ts';
import { ConclaveError } from '../../sdk/errors.ts';
import type { Session } from '../../sdk/session.ts';
import { ManualClock } from '../support/manual-clock.ts';

test('a session that has ended before the start is the end: nothing begins anew', () => {
  const over = new AbortController();
  over.abort(new ConclaveError('SESSION_LOST', 'lost by the test'));
  const session = {
    signal: over.signal,
    state: 'lost',
    client: { clock: new ManualClock(), random: () => 0.5 },
  } as unknown as Session;
  const effects: string[] = [];
  const runner = new MachineRunner<string, never, string>(session, {
    first: { state: 'entering', effects: ['enter'] },
    step: (_, { kind }) => ({ state: kind, effects: ['end'] }),
    run: (effect) => effects.push(effect),
    recheckMs: 1_000,
  });
  runner.start();
  expect([runner.state, ...effects]).toEqual(['session-lost', 'enter', 'end']);
});
