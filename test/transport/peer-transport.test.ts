import { afterEach, expect, test } from 'vitest';
import { Fault } from '../../server/faults.ts';
import { waitFor, within } from '../support/wait.ts';
import {
  appendOf,
  heartbeat,
  introduce,
  openRig,
  type Rig,
  type RigOptions,
  rosterOf,
} from './rig.ts';

const opened: Rig[] = [];
const open = async (id: bigint, options?: RigOptions): Promise<Rig> => {
  const rig = await openRig(id, options);
  opened.push(rig);
  return rig;
};
afterEach(async () => {
  await Promise.all(opened.splice(0).map(({ transport }) => transport.close()));
});

const connected = (...rigs: readonly Rig[]) =>
  waitFor('connections', () => {
    const isDone = rigs.every((rig) =>
      rigs.every(({ id }) => id === rig.id || rig.transport.connectedMs(id) !== undefined),
    );
    return isDone || undefined;
  });

test('three members find each other, and messages arrive as they were sent', async () => {
  const rigs = await Promise.all([open(1n), open(2n), open(3n)]);
  introduce(...rigs);
  await connected(...rigs);
  const [one, two, three] = rigs as [Rig, Rig, Rig];
  expect(one.told.sort()).toEqual(['reachable 2', 'reachable 3']);

  const messages = [
    heartbeat(1n, 2n, 5),
    appendOf(1n, 2n, 7, [Buffer.from('a'), Buffer.alloc(100_000, 3)]),
    heartbeat(1n, 3n, 6),
  ];
  one.transport.send(messages);
  await waitFor(
    'messages',
    () => (two.received.length === 2 && three.received.length === 1) || undefined,
  );
  const byKind = [...two.received].sort((a, b) => (a.kind < b.kind ? 1 : -1));
  expect(byKind).toEqual([messages[0], messages[1]]);
  expect(three.received).toEqual([messages[2]]);
});
