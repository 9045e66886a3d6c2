/** Who is let in, on real connections; `gatekeeper.test.ts` has every rule. */
import { afterEach, expect, test } from 'vitest';
import { waitFor } from '../support/wait.ts';
import {
  appendOf,
  connected,
  Ends,
  heartbeat,
  introduce,
  memoryPeerBook,
  openRig,
  type RigOptions,
  rosterOf,
  told,
} from './rig.ts';

const ends = new Ends();
afterEach(() => ends.close());
const open = (id: bigint, options?: RigOptions) => ends.open(id, options);

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
  const attempts = await ends.cutting(Number(new URL(nine.url).port));
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(attempts).toEqual([]);
});
