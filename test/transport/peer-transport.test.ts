import { afterEach, expect, test } from 'vitest';
import { PeerListener } from '../../server/transport/peer-listener.ts';
import { TcpProxy } from '../support/proxy.ts';
import { waitFor } from '../support/wait.ts';
import {
  appendOf,
  connected,
  Ends,
  heartbeat,
  introduce,
  type Rig,
  type RigOptions,
  rosterOf,
  told,
} from './rig.ts';

const ends = new Ends();
afterEach(() => ends.close());
const open = (id: bigint, options?: RigOptions) => ends.open(id, options);

async function proxyTo(rig: Rig): Promise<{ readonly proxy: TcpProxy; readonly url: string }> {
  const proxy = await TcpProxy.to(new URL(rig.url).host);
  ends.add(() => proxy.close());
  return { proxy, url: `http://${proxy.endpoint}` };
}

test('three members find each other, and messages arrive as they were sent', async () => {
  const [one, two, three] = await Promise.all([open(1n), open(2n), open(3n)]);
  introduce(one, two, three);
  await connected(one, two, three);
  expect(one.told.filter((line) => line.startsWith('reachable')).sort()).toEqual([
    'reachable 2',
    'reachable 3',
  ]);

  const messages = [
    heartbeat(1n, 2n, 5),
    appendOf(1n, 2n, 7, [Buffer.from('a'), Buffer.alloc(100_000, 3)]),
    heartbeat(1n, 3n, 6),
  ];
  one.transport.send(messages);
  await waitFor('messages', () => two.received.length + three.received.length === 3 || undefined);
  const heartbeatFirst = [...two.received].sort((a, b) => (a.kind < b.kind ? 1 : -1));
  expect(heartbeatFirst).toEqual([messages[0], messages[1]]);
  expect(three.received).toEqual([messages[2]]);
});

test('entries arrive in order and complete, and so do the others among them', async () => {
  const [one, two] = await Promise.all([open(1n), open(2n)]);
  introduce(one, two);
  await connected(one, two);
  const COUNT = 2_000;
  for (let at = 0; at < COUNT; at += 1) {
    // Of many sizes, in calls of one and of several messages.
    const append = appendOf(1n, 2n, at, [Buffer.alloc((at * 37) % 5_000, at)]);
    if (at % 3 === 0) one.transport.send([append]);
    else one.transport.send([heartbeat(1n, 2n, at), append, heartbeat(1n, 2n, at)]);
    if (at % 500 === 0) await new Promise(setImmediate);
  }
  const appends = () => two.received.flatMap((each) => (each.kind === 'append' ? [each] : []));
  await waitFor('all', () => appends().length === COUNT || undefined);
  expect(appends().map(({ prevIndex }) => prevIndex)).toEqual([...Array(COUNT).keys()]);
  expect(appends().every(({ entries }, at) => entries[0]?.data.length === (at * 37) % 5_000)).toBe(
    true,
  );
  const beats = two.received.flatMap((each) => (each.kind === 'heartbeat' ? [each.context] : []));
  expect(beats).toEqual([...beats].sort((a, b) => a - b));
});

test('many messages of one call are split into frames that fit', async () => {
  const [one, two] = await Promise.all([open(1n), open(2n)]);
  introduce(one, two);
  await connected(one, two);
  const beats = Array.from({ length: 5_000 }, (_, at) => heartbeat(1n, 2n, at));
  const appends = Array.from({ length: 12 }, (_, at) =>
    appendOf(1n, 2n, at, [Buffer.alloc(2 ** 20)]),
  );
  one.transport.send([...beats, ...appends]);
  await waitFor('all', () => two.received.length === 5_012 || undefined);
});

test('messages to nobody, to strangers and from a closed transport are lost without a word', async () => {
  const one = await open(1n);
  one.transport.setPeers({
    index: 0,
    peers: [{ id: 2n, urls: ['http://127.0.0.1:1'] }],
    removed: [],
  });
  one.transport.send([]);
  one.transport.send([heartbeat(1n, 2n, 1), heartbeat(1n, 3n, 1)]);
  await told(one, 'unreachable 2');
  await one.transport.close();
  one.transport.send([heartbeat(1n, 2n, 1)]);
  one.transport.setPeers({ index: 1, peers: [], removed: [] });
  await one.transport.close();
});

test('a link that flaps is taken up again each time, and each break is told once', async () => {
  const [one, two] = await Promise.all([open(1n), open(2n)]);
  const { proxy, url } = await proxyTo(two);
  one.transport.setPeers(rosterOf(one, [{ id: 2n, url }]));
  two.transport.setPeers(rosterOf(two, [one]));
  await connected(one, two);
  for (let round = 1; round <= 4; round += 1) {
    const before = one.told.length;
    proxy.cut();
    await waitFor('the way back', () => one.told.length === before + 2 || undefined);
    expect(one.told.slice(before)).toEqual(['unreachable 2', 'reachable 2']);
    one.transport.send([heartbeat(1n, 2n, round)]);
    await waitFor('a message', () => two.received.length === round || undefined);
  }
  expect(one.transport.connectedMs(2n)).toBeLessThan(10_000);
});

test('a member that is away is tried again, after pauses that grow', async () => {
  const closed = await PeerListener.open(['http://127.0.0.1:0']);
  const port = Number(new URL(closed.urls[0] ?? '').port);
  await closed.close();
  const attemptsMs = await ends.cutting(port);
  const one = await open(1n);
  const urls = [`http://127.0.0.1:${port}`];
  one.transport.setPeers({ index: 0, peers: [{ id: 2n, urls }], removed: [] });
  await waitFor('attempts', () => attemptsMs.length >= 6 || undefined);
  const pausesMs = attemptsMs.slice(1).map((ms, at) => ms - (attemptsMs[at] ?? 0));
  for (const [at, atLeastMs] of [10, 20, 40, 80, 160].entries()) {
    expect(pausesMs[at]).toBeGreaterThan(atLeastMs - 2);
  }
  expect(one.told).toEqual(['unreachable 2']);
  expect(one.warnings.length).toBe(1);
});

test('of several URLs the one that works is found', async () => {
  const [one, two] = await Promise.all([open(1n), open(2n)]);
  two.transport.setPeers(rosterOf(two, [one]));
  one.transport.setPeers({
    index: 0,
    peers: [{ id: 2n, urls: ['http://127.0.0.1:1', 'http://[::1]:1', two.url] }],
    removed: [],
  });
  await connected(one, two);
});

test('a silent network cuts the connection after an election timeout', async () => {
  const [one, two] = await Promise.all([open(1n), open(2n)]);
  const { proxy, url } = await proxyTo(two);
  one.transport.setPeers(rosterOf(one, [{ id: 2n, url }]));
  two.transport.setPeers(rosterOf(two, [one]));
  await connected(one, two);
  const before = one.told.length;
  const stalledMs = performance.now();
  proxy.stall();
  await waitFor('the break', () => one.told.length > before || undefined, { intervalMs: 5 });
  expect(one.told[before]).toBe('unreachable 2');
  expect(performance.now() - stalledMs).toBeGreaterThan(700);
  proxy.heal();
  await connected(one, two);
});
