/** Heartbeats must be on time whatever else goes to the same member, and however slow it is. */
import { randomFillSync } from 'node:crypto';
import { afterEach, expect, test } from 'vitest';
import type { SnapshotMessage } from '../../server/transport/transport.ts';
import { waitFor } from '../support/wait.ts';
import { PeerChild } from './children.ts';
import { appendOf, ELECTION_MS, heartbeat, openRig } from './rig.ts';
import { snapshotOf } from './snapshots.ts';

const MiB = 1024 * 1024;
const CHILD = 2n;
const ends: (() => Promise<void>)[] = [];
afterEach(async () => {
  await Promise.all(ends.splice(0).map((end) => end()));
});

test('heartbeats pass a snapshot and appends to a slow member, and memory stays bounded', async () => {
  const WORK_MS = 20;
  const sentMs = new Map<number, number>();
  const tripsMs: number[] = [];
  let childRssMiB = 0;
  let taken = 0;
  let breaks = 0;
  const rig = await openRig(1n, {
    handlers: {
      unreachable: () => {
        breaks += 1;
      },
      receive: (message) => {
        if (message.kind !== 'read-index-response') return;
        tripsMs.push(performance.now() - (sentMs.get(message.request) ?? 0));
        childRssMiB = Math.max(childRssMiB, Number(message.incarnation));
        taken = message.index;
      },
    },
  });
  ends.push(() => rig.transport.close());
  const child = new PeerChild([String(CHILD), '1', rig.url, String(WORK_MS)]);
  ends.push(() => child.end());
  const peers = [{ id: CHILD, urls: [await child.url()] }];
  rig.transport.setPeers({ index: 0, peers, removed: [] });
  await waitFor('a connection', () => rig.transport.connectedMs(CHILD));
  breaks = 0;

  const source = snapshotOf(randomFillSync(Buffer.allocUnsafe(64 * MiB)));
  const { configuration, index, term: indexTerm } = source;
  const message: SnapshotMessage = {
    ...{ kind: 'snapshot', from: 1n, to: CHILD, term: 1 },
    ...{ index, indexTerm, configuration },
  };
  const outsideBytes = () => process.memoryUsage().external;
  const startBytes = outsideBytes();
  let mostBytes = startBytes;
  let offered = 0;
  const load = setInterval(() => {
    // About 200 MiB a second, of which the member can take 50.
    rig.transport.send([appendOf(1n, CHILD, offered, [Buffer.alloc(MiB)])]);
    offered += 1;
    mostBytes = Math.max(mostBytes, outsideBytes());
  }, 5);
  const beat = setInterval(() => {
    const context = sentMs.size + 1;
    sentMs.set(context, performance.now());
    rig.transport.send([heartbeat(1n, CHILD, context)]);
  }, 50);
  try {
    await rig.transport.sendSnapshot(CHILD, message, source, new AbortController().signal);
    await waitFor('the load', () => (offered >= 400 && sentMs.size >= 60) || undefined, {
      timeoutMs: 25_000,
    });
  } finally {
    clearInterval(load);
    clearInterval(beat);
  }
  const beats = sentMs.size;
  await waitFor('the last answers', () => tripsMs.length === beats || undefined);

  tripsMs.sort((a, b) => a - b);
  // All but a few: this process may be held up itself. The appends alone wait for longer than that.
  expect(tripsMs[Math.floor(0.95 * beats)]).toBeLessThan(0.4 * ELECTION_MS);
  expect(breaks).toBe(0);
  // The load was more than could be sent: the rest was dropped, not kept.
  expect(taken).toBeGreaterThan(10);
  expect(taken).toBeLessThan(offered / 2);
  expect(mostBytes - startBytes).toBeLessThan(128 * MiB);
  expect(childRssMiB).toBeLessThan(300);
});
