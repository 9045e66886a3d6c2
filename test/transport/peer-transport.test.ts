import { once } from 'node:events';
import { createServer } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { fetchMembers } from '../../server/transport/join.ts';
import { PeerListener } from '../../server/transport/peer-listener.ts';
import type { MembersReply } from '../../server/transport/transport.ts';
import { TcpProxy } from '../support/proxy.ts';
import { waitFor } from '../support/wait.ts';
import {
  appendOf,
  CLUSTER,
  heartbeat,
  introduce,
  memoryPeerBook,
  openRig,
  type Rig,
  type RigOptions,
  rosterOf,
} from './rig.ts';

const ends: (() => Promise<void>)[] = [];
afterEach(async () => {
  await Promise.all(ends.splice(0).map((end) => end()));
});

async function open(id: bigint, options?: RigOptions): Promise<Rig> {
  const rig = await openRig(id, options);
  ends.push(() => rig.transport.close());
  return rig;
}

async function proxyTo(rig: Rig): Promise<{ readonly proxy: TcpProxy; readonly url: string }> {
  const proxy = await TcpProxy.to(new URL(rig.url).host);
  ends.push(() => proxy.close());
  return { proxy, url: `http://${proxy.endpoint}` };
}

const connected = (...rigs: readonly Rig[]) =>
  waitFor('connections', () => {
    const isConnected = (rig: Rig) =>
      rigs.every(({ id }) => id === rig.id || rig.transport.connectedMs(id) !== undefined);
    return rigs.every(isConnected) || undefined;
  });

/** Cuts whoever connects to that port; when they did. */
async function listening(port: number): Promise<readonly number[]> {
  const attemptsMs: number[] = [];
  const place = createServer((socket) => {
    attemptsMs.push(performance.now());
    socket.destroy();
  });
  await once(place.listen(port, '127.0.0.1'), 'listening');
  ends.push(() => new Promise((resolve) => void place.close(() => resolve())));
  return attemptsMs;
}

const told = (rig: Rig, line: string) =>
  waitFor(`"${line}"`, () => rig.told.includes(line) || undefined);

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
  const attemptsMs = await listening(port);
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

// Who is let in

test('a member of another cluster is refused on both sides', async () => {
  const [one, two] = await Promise.all([open(1n), open(2n, { clusterId: 0xc2n })]);
  introduce(one, two);
  await told(one, 'refused 2 other-cluster');
  await told(two, 'refused 1 other-cluster');
  expect(one.sentences[0]).toContain('Check the peer URLs in --initial-cluster');
  // The operator of either side reads it; over and over it would fill the log.
  expect(one.warnings.filter((line) => line.startsWith('refused a connection')).length).toBe(1);
  expect(one.transport.connectedMs(2n)).toBeUndefined();
  one.transport.send([heartbeat(1n, 2n, 1)]);
  expect(two.received).toEqual([]);
});

test('a member that comes back with another data directory is refused, with its own it is not', async () => {
  const peerBook = memoryPeerBook();
  const one = await open(1n, { peerBook });
  const two = await openRig(2n, { incarnation: 5n });
  introduce(one, two);
  await connected(one, two);
  expect(peerBook.known(2n)).toBe(5n);
  await two.transport.close();
  await told(one, 'unreachable 2');

  const wiped = await openRig(2n, { incarnation: 6n, listenUrl: two.url });
  introduce(wiped, one);
  await told(wiped, 'refused 1 other-incarnation');
  await waitFor('a warning', () =>
    one.warnings.find((line) => line.includes('conclave member replace')),
  );
  one.transport.send([heartbeat(1n, 2n, 1)]);
  expect(wiped.received).toEqual([]);
  await wiped.transport.close();

  const back = await open(2n, { incarnation: 5n, listenUrl: two.url });
  introduce(back, one);
  await connected(one, back);
});

test('nothing of a member is believed before its data directory is remembered for good', async () => {
  const remembered: (() => void)[] = [];
  const known = new Map<bigint, bigint>();
  const one = await open(1n, {
    peerBook: {
      known: (id) => known.get(id),
      remember: (id, incarnation) =>
        new Promise((resolve) => {
          remembered.push(() => {
            known.set(id, incarnation);
            resolve();
          });
        }),
    },
  });
  const two = await open(2n);
  introduce(one, two);
  // One for each stream that two has opened, and one for what one has found there.
  await waitFor('the first contact', () => remembered.length === 3 || undefined);
  // Both directions wait: nothing is even sent.
  two.transport.send([heartbeat(2n, 1n, 1)]);
  one.transport.send([heartbeat(1n, 2n, 1)]);
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect([...one.received, ...two.received]).toEqual([]);
  expect(two.transport.connectedMs(1n)).toBeUndefined();
  for (const remember of remembered) remember();
  await connected(one, two);
});

test('a member that neither lets this one in nor refuses it is tried again', async () => {
  let contacts = 0;
  const two = await open(2n, {
    peerBook: {
      known: () => undefined,
      remember: () => {
        contacts += 1;
        return new Promise(() => {});
      },
    },
  });
  const one = await open(1n, { options: { electionTimeoutMs: 100 } });
  introduce(one, two);
  await waitFor('an end', () =>
    one.warnings.find((line) => line.includes('did not let this member in in time')),
  );
  const before = contacts;
  await waitFor('another attempt', () => contacts > before || undefined);
});

test('a second process with the same identity is refused while the first is there', async () => {
  const one = await open(1n);
  const two = await openRig(2n);
  introduce(one, two);
  await connected(one, two);
  const clone = await open(2n, { incarnation: two.incarnation });
  clone.transport.setPeers(rosterOf(clone, [one]));
  await told(clone, 'refused 1 already-connected');
  expect(clone.sentences[0]).toContain('stop one of them');
  expect(one.transport.connectedMs(2n)).toBeDefined();
  await two.transport.close();
  await told(one, 'unreachable 2');
  one.transport.setPeers(rosterOf(one, [clone], { index: 1 }));
  await connected(one, clone);
});

test('a member behind the wrong address is refused', async () => {
  const [one, two, three] = await Promise.all([open(1n), open(2n), open(3n)]);
  // One takes three's address for two's.
  one.transport.setPeers(rosterOf(one, [{ id: 2n, url: three.url }]));
  three.transport.setPeers(rosterOf(three, [one, two]));
  await told(one, 'refused 2 wrong-receiver');
  expect(one.sentences[0]).toContain('conclave member update');
});

test('a removed member is cut off at once, and told so when it comes back', async () => {
  const [one, two] = await Promise.all([open(1n), open(2n)]);
  introduce(one, two);
  await connected(one, two);
  one.transport.setPeers({ index: 9, peers: [], removed: [2n] });
  await told(two, 'refused 1 removed-member');
  expect(one.transport.connectedMs(2n)).toBeUndefined();
  expect(two.sentences[0]).toContain('was removed from cluster');
  // Whatever it sends from now on is not taken.
  const before = one.received.length;
  two.transport.send([heartbeat(2n, 1n, 1)]);
  await waitFor('another attempt', () =>
    two.transport.connectedMs(1n) === undefined ? true : undefined,
  );
  expect(one.received.length).toBe(before);
});

test('a stranger that knows no more than this member is refused', async () => {
  const [one, nine] = await Promise.all([open(1n), open(9n)]);
  one.transport.setPeers({ index: 5, peers: [], removed: [] });
  nine.transport.setPeers(rosterOf(nine, [one], { index: 5 }));
  await told(nine, 'refused 1 unknown-member');
});

test('a member whose adding is not applied here yet is let in, and answered', async () => {
  const [one, nine] = await Promise.all([open(1n), open(9n)]);
  one.transport.setPeers({ index: 5, peers: [], removed: [] });
  // Nine, added by entry 8, leads already; one has applied up to entry 5.
  nine.transport.setPeers(rosterOf(nine, [one], { index: 8 }));
  await told(nine, 'reachable 1');
  nine.transport.send([appendOf(9n, 1n, 7, [Buffer.from('x')])]);
  await waitFor('entries', () => one.received.length === 1 || undefined);
  one.transport.send([heartbeat(1n, 9n, 3)]);
  await waitFor('an answer', () => nine.received.length === 1 || undefined);

  // When it is applied the connection stays; when something else was, it goes.
  one.transport.setPeers(rosterOf(one, [nine], { index: 8 }));
  expect(one.transport.connectedMs(9n)).toBeDefined();
  one.transport.setPeers({ index: 8, peers: [], removed: [] });
  await told(nine, 'refused 1 unknown-member');
  expect(one.transport.connectedMs(9n)).toBeUndefined();
});

test('a member that was let in ahead of its adding is forgotten when it leaves', async () => {
  const one = await open(1n);
  const nine = await openRig(9n);
  one.transport.setPeers({ index: 5, peers: [], removed: [] });
  nine.transport.setPeers(rosterOf(nine, [one], { index: 8 }));
  await told(one, 'reachable 9');
  await nine.transport.close();
  await waitFor('its end', () => one.transport.connectedMs(9n) === undefined || undefined);
  // Nobody calls at its address any more.
  const attempts = await listening(Number(new URL(nine.url).port));
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(attempts).toEqual([]);
});

// Joining

test('anybody is told the members', async () => {
  const reply: MembersReply = {
    clusterId: CLUSTER,
    memberId: 1n,
    index: 2 ** 40,
    members: [
      {
        id: 2n ** 64n - 1n,
        name: 'a',
        peerUrls: ['http://a:1', 'http://b:2'],
        clientUrls: ['http://c:3'],
        isLearner: true,
        incarnation: 2n ** 63n - 1n,
      },
      { id: 3n, name: '', peerUrls: [], clientUrls: [], isLearner: false, incarnation: undefined },
    ],
    removed: [7n, 8n],
  };
  const one = await open(1n, { handlers: { members: () => reply } });
  expect(await fetchMembers(one.url, AbortSignal.timeout(5_000))).toEqual(reply);
});

test('who asks for the members gets what went wrong', async () => {
  const one = await open(1n, {
    handlers: {
      members: () => {
        throw new Error('not ready');
      },
    },
  });
  const signal = AbortSignal.timeout(5_000);
  await expect(fetchMembers(one.url, signal)).rejects.toThrow('not ready');
  await expect(fetchMembers('http://127.0.0.1:1', signal)).rejects.toThrow('ECONNREFUSED');
  await expect(fetchMembers('https://a:1', signal)).rejects.toThrow(TypeError);
  const silent = await PeerListener.open(['http://127.0.0.1:0']);
  ends.push(() => silent.close());
  silent.serve(() => {});
  await expect(fetchMembers(silent.urls[0] ?? '', AbortSignal.timeout(50))).rejects.toMatchObject({
    name: 'TimeoutError',
  });
});

test('a listener says which URL it cannot use, and which port is taken', async () => {
  for (const url of ['https://127.0.0.1:0', 'unix:/tmp/x', 'http://a:1/path', 'nonsense']) {
    await expect(PeerListener.open([url])).rejects.toThrow(`Cannot use "${url}" as a peer URL`);
  }
  const one = await open(1n);
  await expect(PeerListener.open(['http://127.0.0.1:0', one.url])).rejects.toMatchObject({
    code: 'EADDRINUSE',
  });
});
