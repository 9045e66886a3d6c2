/** The stream of watches between one watch and the next. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { connectOver } from '../../sdk/connect.ts';
import type { Client } from '../../sdk/index.ts';
import { FakeTransportMember, openFake } from '../support/fake-transport.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { turn } from './watch-world.ts';

const restMs = 1_000;

let clock: ManualClock;
let member: FakeTransportMember;
let other: FakeTransportMember;
let client: Client;

beforeEach(async () => {
  clock = new ManualClock();
  member = new FakeTransportMember('a');
  other = new FakeTransportMember('b');
  client = await connectOver(
    { openTransport: openFake([member, other], clock) },
    { endpoints: ['a', 'b'], clock, random: () => 0 },
  );
});

afterEach(() => client.close());

const watchOnce = async (key: string): Promise<void> => {
  const watch = client.kv.watch(key);
  await turn();
  await watch.cancel();
  await turn();
};

const asked = (): (string | undefined)[] =>
  member.watchRequests.map(({ requestUnion }) => requestUnion?.$case);

test('it stays open for the next watch, and each that ends is taken off it', async () => {
  await watchOnce('a');
  clock.advance(restMs - 1);
  await watchOnce('b');
  clock.advance(restMs - 1);
  await watchOnce('c');
  expect(member.watches).toBe(1);
  const each = ['createRequest', 'cancelRequest'];
  expect(asked()).toEqual([...each, ...each, ...each]);
});

test('it is left when nothing is watched for long, and opened again when something is', async () => {
  await watchOnce('a');
  clock.advance(restMs);
  await watchOnce('b');
  expect(member.watches).toBe(2);
});

test('it is not left under a watch that came meanwhile', async () => {
  await watchOnce('a');
  clock.advance(restMs - 1);
  const lasting = client.kv.watch('b');
  await turn();
  clock.advance(10 * restMs);
  await turn();
  await watchOnce('c');
  expect(member.watches).toBe(1);
  await lasting.cancel();
});

test('when it ends without a watch, its member is not left for another', async () => {
  await watchOnce('a');
  const dialled = () => member.dialledMs.length + other.dialledMs.length;
  const before = dialled();
  member.endWatches();
  for (let times = 0; times < 20; times += 1) {
    await turn();
    clock.advance(40);
  }
  expect([member.watches, dialled()]).toEqual([1, before]);
  await watchOnce('b');
  expect([member.watches, dialled()]).toEqual([2, before]);
});

test('a client that is closed leaves no timer for it', async () => {
  await watchOnce('a');
  await client.close();
  expect(clock.timers).toBe(0);
});
