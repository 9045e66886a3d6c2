/** What a member sees of another one that is a process of its own: killed, or stopped for a while. */
import { once } from 'node:events';
import { createConnection, createServer } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import type { Message } from '../../server/raft/message.ts';
import { waitFor } from '../support/wait.ts';
import { PeerChild } from './children.ts';
import { ELECTION_MS, heartbeat, openRig, type Rig } from './rig.ts';

const CHILD = 2n;
const ends: (() => Promise<void>)[] = [];
afterEach(async () => {
  await Promise.all(ends.splice(0).map((end) => end()));
});

type Pair = { readonly rig: Rig; readonly child: PeerChild; readonly breaksMs: readonly number[] };

/** This process is member 1, the child member 2; both are connected to the other. */
async function connectedPair(): Promise<Pair> {
  const breaksMs: number[] = [];
  const rig = await openRig(1n, {
    handlers: { unreachable: () => void breaksMs.push(performance.now()) },
  });
  ends.push(() => rig.transport.close());
  const child = new PeerChild([String(CHILD), '1', rig.url]);
  ends.push(() => child.end());
  rig.transport.setPeers({
    index: 0,
    peers: [{ id: CHILD, urls: [await child.url()] }],
    removed: [],
  });
  await waitFor('a connection', () => rig.transport.connectedMs(CHILD));
  breaksMs.length = 0;
  return { rig, child, breaksMs };
}

/** The child's answer to a heartbeat, which is sent until there is one. */
async function answer(rig: Rig, context: number): Promise<void> {
  const isAnswer = (message: Message) => 'request' in message && message.request === context;
  await waitFor('an answer', () => {
    rig.transport.send([heartbeat(1n, CHILD, context)]);
    return rig.received.some(isAnswer) || undefined;
  });
}

test('a killed process is reported at once, and only once while it is gone', async () => {
  const delaysMs: number[] = [];
  for (let run = 0; run < 3; run += 1) {
    const { child, breaksMs } = await connectedPair();
    const port = Number(new URL(await child.url()).port);
    // The system closes all sockets of a process together, some time after the signal.
    const plain = createConnection(port, '127.0.0.1').on('error', () => {});
    await once(plain, 'connect');
    const closed = new Promise<number>((resolve) => {
      plain.resume().on('close', () => resolve(performance.now()));
    });
    child.signal('SIGKILL');
    await waitFor('the break', () => breaksMs[0], { intervalMs: 1 });
    delaysMs.push((breaksMs[0] ?? 0) - (await closed));

    // Attempts to connect again are no new breaks: count them in the child's place.
    let attempts = 0;
    const place = createServer((socket) => {
      attempts += 1;
      socket.destroy();
    });
    ends.push(() => new Promise((resolve) => void place.close(() => resolve())));
    await waitFor(
      'its port',
      () =>
        new Promise<true>((resolve, reject) => {
          place.once('error', reject);
          place.listen(port, '127.0.0.1', () => resolve(true));
        }),
    );
    await waitFor('attempts', () => attempts >= 3 || undefined);
    expect(breaksMs.length).toBe(1);
  }
  // The best of three: the machine may be busy, whereas a timeout would delay each of them.
  expect(Math.min(...delaysMs)).toBeLessThan(20);
});

test('a stopped process is let go after an election timeout, not before, and found again', async () => {
  const { rig, child, breaksMs } = await connectedPair();
  const stoppedMs = performance.now();
  child.signal('SIGSTOP');
  await waitFor('the break', () => breaksMs[0], { intervalMs: 1 });
  const tookMs = (breaksMs[0] ?? 0) - stoppedMs;
  expect(tookMs).toBeGreaterThan(0.75 * ELECTION_MS);
  expect(tookMs).toBeLessThan(1.5 * ELECTION_MS);
  expect(rig.transport.connectedMs(CHILD)).toBeUndefined();

  child.signal('SIGCONT');
  await waitFor('a connection', () => rig.transport.connectedMs(CHILD));
  await answer(rig, 7);
});

test('a process that stops for less than an election timeout keeps its connections', async () => {
  const { rig, child, breaksMs } = await connectedPair();
  const breaksOfChild = () => child.lines.filter((line) => line.startsWith('unreachable')).length;
  const before = breaksOfChild();
  child.signal('SIGSTOP');
  await new Promise((resolve) => setTimeout(resolve, 0.6 * ELECTION_MS));
  child.signal('SIGCONT');
  await answer(rig, 1);
  // Whatever the silence set off has happened after another answer and a timeout's worth of ticks.
  await waitFor(
    'time',
    () => (rig.transport.connectedMs(CHILD) ?? 0) > 2 * ELECTION_MS || undefined,
  );
  await answer(rig, 2);
  expect(breaksMs).toEqual([]);
  expect(breaksOfChild()).toBe(before);
});
