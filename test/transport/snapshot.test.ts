import { randomFillSync } from 'node:crypto';
import { afterEach, expect, test } from 'vitest';
import { systemTimers } from '../../server/clock.ts';
import type { Timers } from '../../server/ports.ts';
import { NoSpaceError } from '../../server/storage/errors.ts';
import { MemoryInbox } from '../../server/storage/memory-transfer.ts';
import type {
  IncomingSnapshot,
  OutgoingSnapshot,
  ReceivedSnapshot,
} from '../../server/storage/transfer.ts';
import { type SnapshotMessage, SnapshotSendError } from '../../server/transport/transport.ts';
import { TcpProxy } from '../support/proxy.ts';
import { waitFor } from '../support/wait.ts';
import { openRig, type Rig } from './rig.ts';
import { snapshotOf } from './snapshots.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const CHUNK = 256 * KiB;
const opened: Rig[] = [];
const proxies: TcpProxy[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map(({ transport }) => transport.close()));
  await Promise.all(proxies.splice(0).map((proxy) => proxy.close()));
});

/** Pauses and patience of seconds pass in hundredths of them. */
const hasty: Timers = {
  ...systemTimers,
  after: (delayMs, run) => systemTimers.after(delayMs / 50, run),
};

type World = {
  readonly sender: Rig;
  readonly receiver: Rig;
  readonly proxy: TcpProxy;
  readonly inbox: MemoryInbox;
  /** The offset that each attempt was told to go on from. */
  readonly starts: number[];
  readonly received: [SnapshotMessage, ReceivedSnapshot][];
  send(source: OutgoingSnapshot, signal?: AbortSignal): Promise<void>;
};

type Spoil = (incoming: IncomingSnapshot, attempt: number) => IncomingSnapshot;

async function world(spoil: Spoil = (incoming) => incoming): Promise<World> {
  const inbox = new MemoryInbox();
  const starts: number[] = [];
  const received: [SnapshotMessage, ReceivedSnapshot][] = [];
  const receiver = await openRig(2n, {
    handlers: {
      openSnapshot: async (_, announced) => {
        const incoming = await inbox.open(announced);
        starts.push(incoming.offset);
        return spoil(incoming, starts.length);
      },
      snapshotReceived: async (message, snapshot) => {
        received.push([message, snapshot]);
      },
    },
  });
  const sender = await openRig(1n, { options: { timers: hasty } });
  opened.push(sender, receiver);
  const proxy = await TcpProxy.to(new URL(receiver.url).host);
  proxies.push(proxy);
  receiver.transport.setPeers({ index: 0, peers: [{ id: 1n, urls: [sender.url] }], removed: [] });
  const urls = [`http://${proxy.endpoint}`];
  sender.transport.setPeers({ index: 0, peers: [{ id: 2n, urls }], removed: [] });
  await waitFor('a connection', () => sender.transport.connectedMs(2n));
  return {
    ...{ sender, receiver, proxy, inbox, starts, received },
    send: (source, signal = new AbortController().signal) =>
      sender.transport.sendSnapshot(2n, messageOf(source), source, signal),
  };
}

const messageOf = ({ index, term, configuration }: OutgoingSnapshot): SnapshotMessage => ({
  kind: 'snapshot',
  from: 1n,
  to: 2n,
  term: 5,
  index,
  indexTerm: term,
  configuration,
});

const bytesOf = (length: number) => randomFillSync(Buffer.allocUnsafe(length));
const contentOf = (received: ReceivedSnapshot | undefined): Buffer => {
  if (received?.content.kind !== 'memory') throw new Error('it is not in memory');
  return Buffer.from(received.content.bytes);
};

test.each([1, CHUNK, 3 * MiB + 17])(
  'a copy of %i bytes arrives whole, with its message',
  async (length) => {
    const { send, received, starts } = await world();
    const bytes = bytesOf(length);
    const source = snapshotOf(bytes);
    await send(source);
    expect(starts).toEqual([0]);
    expect(received.length).toBe(1);
    expect(received[0]?.[0]).toEqual(messageOf(source));
    expect(contentOf(received[0]?.[1]).equals(bytes)).toBe(true);
  },
);

test('after a broken connection it goes on where the receiver stopped', async () => {
  const cutAt = [5, 9];
  const { send, received, starts, proxy } = await world((incoming) => ({
    ...incoming,
    get offset() {
      return incoming.offset;
    },
    write: async (offset, bytes, checksum) => {
      await incoming.write(offset, bytes, checksum);
      if (offset === (cutAt[0] ?? -1) * CHUNK) {
        cutAt.shift();
        proxy.cut();
      }
    },
  }));
  const bytes = bytesOf(4 * MiB);
  await send(snapshotOf(bytes));
  expect(contentOf(received[0]?.[1]).equals(bytes)).toBe(true);
  expect(starts.length).toBe(3);
  // What came was kept: each attempt begins at, or after, the chunk before the cut.
  expect(starts[1]).toBeGreaterThanOrEqual(6 * CHUNK);
  expect(starts[2]).toBeGreaterThanOrEqual(10 * CHUNK);
});

test('a chunk that was damaged on its way is sent again', async () => {
  const { send, received, starts } = await world((incoming, attempt) => ({
    ...incoming,
    get offset() {
      return incoming.offset;
    },
    write: async (offset, bytes, checksum) => {
      const isHit = attempt === 1 && offset === 2 * CHUNK;
      const damaged = Buffer.from(bytes);
      if (isHit) damaged[100] = (damaged[100] ?? 0) ^ 1;
      await incoming.write(offset, damaged, checksum);
    },
  }));
  const bytes = bytesOf(MiB);
  await send(snapshotOf(bytes));
  expect(starts).toEqual([0, 2 * CHUNK]);
  expect(contentOf(received[0]?.[1]).equals(bytes)).toBe(true);
});

test('a copy that is not what was announced is given up at once', async () => {
  const { send, received, starts } = await world();
  const source = { ...snapshotOf(bytesOf(MiB)), sha256: Buffer.alloc(32) };
  await expect(send(source)).rejects.toThrow('does not match the hash');
  await expect(send(source)).rejects.toBeInstanceOf(SnapshotSendError);
  expect(starts).toEqual([0, 0]);
  expect(received).toEqual([]);
});

test('a receiver without room is not tried again', async () => {
  const { send, starts } = await world((incoming) => ({
    ...incoming,
    write: () => Promise.reject(new NoSpaceError('/data', 1, 2)),
  }));
  await expect(send(snapshotOf(bytesOf(MiB)))).rejects.toThrow('Free some space');
  expect(starts.length).toBe(1);
});

test('a receiver that never gets further is given up after five attempts', async () => {
  const { send, starts } = await world((incoming) => ({
    ...incoming,
    write: () => Promise.reject(new Error('the disk is not ready')),
  }));
  await expect(send(snapshotOf(bytesOf(MiB)))).rejects.toThrow(
    `gave up after 5 attempts at byte 0 of ${MiB}: the disk is not ready`,
  );
  expect(starts.length).toBe(5);
});

test('a receiver that hangs gets little, and is given up as well', async () => {
  const { send, starts } = await world((incoming) => ({
    ...incoming,
    write: () => new Promise(() => {}),
  }));
  const source = snapshotOf(bytesOf(8 * MiB));
  let chunks = 0;
  const counted: OutgoingSnapshot = {
    ...source,
    chunk: (offset) => {
      chunks += 1;
      return source.chunk(offset);
    },
  };
  await expect(send(counted)).rejects.toThrow('no progress for 10 s');
  expect(starts.length).toBe(5);
  // A MiB may be under way, not the whole copy.
  expect(chunks).toBe(5 * 4);
});

test('attempts that get further do not count as failed', async () => {
  let writes = 0;
  const { send, received } = await world((incoming) => ({
    ...incoming,
    get offset() {
      return incoming.offset;
    },
    write: async (offset, bytes, checksum) => {
      writes += 1;
      // Every attempt gets one chunk further: eight of them for eight chunks.
      if (writes % 2 === 0) throw new Error('hiccup');
      await incoming.write(offset, bytes, checksum);
    },
  }));
  const bytes = bytesOf(2 * MiB);
  await send(snapshotOf(bytes));
  expect(contentOf(received[0]?.[1]).equals(bytes)).toBe(true);
});

test('a failure to take the message in is a failure of the transfer', async () => {
  const receiver = await openRig(2n, {
    handlers: {
      openSnapshot: (_, announced) => new MemoryInbox().open(announced),
      snapshotReceived: () => Promise.reject(new Error('the replica stops')),
    },
  });
  const sender = await openRig(1n, { options: { timers: hasty } });
  opened.push(sender, receiver);
  receiver.transport.setPeers({ index: 0, peers: [{ id: 1n, urls: [sender.url] }], removed: [] });
  sender.transport.setPeers({ index: 0, peers: [{ id: 2n, urls: [receiver.url] }], removed: [] });
  const source = snapshotOf(bytesOf(100));
  const { signal } = new AbortController();
  await expect(
    sender.transport.sendSnapshot(2n, messageOf(source), source, signal),
  ).rejects.toThrow('the replica stops');
});

test('an abort ends it at once, on both sides', async () => {
  let suspended = 0;
  const abort = new AbortController();
  const { send } = await world((incoming) => ({
    ...incoming,
    get offset() {
      return incoming.offset;
    },
    write: async (offset, bytes, checksum) => {
      await incoming.write(offset, bytes, checksum);
      if (offset === 3 * CHUNK) abort.abort(new Error('no longer the leader'));
    },
    suspend: async () => {
      suspended += 1;
      await incoming.suspend();
    },
  }));
  await expect(send(snapshotOf(bytesOf(8 * MiB)), abort.signal)).rejects.toThrow(
    'no longer the leader',
  );
  await waitFor('the receiver', () => suspended === 1 || undefined);
  await expect(send(snapshotOf(bytesOf(1)), abort.signal)).rejects.toThrow('no longer the leader');
});

test('an unknown member gets no snapshot', async () => {
  const { sender } = await world();
  const source = snapshotOf(bytesOf(1));
  const { signal } = new AbortController();
  await expect(
    sender.transport.sendSnapshot(9n, { ...messageOf(source), to: 9n }, source, signal),
  ).rejects.toThrow('member 9 is not known');
});
