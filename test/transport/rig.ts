/** Members that have a transport and nothing else, in this process, on real connections. */
import { once } from 'node:events';
import { createServer } from 'node:net';
import { pino } from 'pino';
import { systemClock, systemRandom, systemTimers } from '../../server/clock.ts';
import type { PeerBook } from '../../server/ports.ts';
import type { Message } from '../../server/raft/message.ts';
import { PeerListener } from '../../server/transport/peer-listener.ts';
import { PeerTransport, type PeerTransportOptions } from '../../server/transport/peer-transport.ts';
import type {
  PeerRoster,
  RefusalCode,
  TransportHandlers,
} from '../../server/transport/transport.ts';
import { waitFor } from '../support/wait.ts';

export const CLUSTER = 0xc1n;
export const ELECTION_MS = 1_000;

export type Rig = {
  readonly id: bigint;
  readonly transport: PeerTransport;
  readonly url: string;
  readonly received: Message[];
  /** What was told, in order: `reachable 2`, `unreachable 2`, `refused 2 removed-member`. */
  readonly told: string[];
  readonly sentences: string[];
  readonly warnings: string[];
  readonly incarnation: bigint;
};

export type RigOptions = {
  readonly handlers?: Partial<TransportHandlers>;
  readonly incarnation?: bigint;
  readonly clusterId?: bigint;
  readonly peerBook?: PeerBook;
  /** Bound already, or its address. */
  readonly listener?: PeerListener;
  readonly listenUrl?: string;
  readonly options?: Partial<PeerTransportOptions>;
};

export function memoryPeerBook(known = new Map<bigint, bigint>()): PeerBook {
  return {
    known: (member) => known.get(member),
    remember: async (member, incarnation) => {
      known.set(member, incarnation);
    },
  };
}

export async function openRig(id: bigint, options: RigOptions = {}): Promise<Rig> {
  const listener =
    options.listener ?? (await PeerListener.open([options.listenUrl ?? 'http://127.0.0.1:0']));
  const url = listener.urls[0] ?? '';
  const received: Message[] = [];
  const told: string[] = [];
  const sentences: string[] = [];
  const warnings: string[] = [];
  const incarnation = options.incarnation ?? id * 100n;
  const logger = pino(
    { level: 'warn' },
    {
      write: (line: string) => {
        warnings.push((JSON.parse(line) as { msg: string }).msg);
      },
    },
  );
  const transport = new PeerTransport({
    identity: { clusterId: options.clusterId ?? CLUSTER, memberId: id, incarnation },
    urls: [url],
    listener,
    electionTimeoutMs: ELECTION_MS,
    peerBook: options.peerBook ?? memoryPeerBook(),
    clock: systemClock,
    timers: systemTimers,
    random: systemRandom,
    logger,
    ...options.options,
    handlers: {
      receive: (message) => void received.push(message),
      reachable: (peer) => void told.push(`reachable ${peer}`),
      unreachable: (peer) => void told.push(`unreachable ${peer}`),
      refused: (peer: bigint, code: RefusalCode, sentence: string) => {
        told.push(`refused ${peer} ${code}`);
        sentences.push(sentence);
      },
      answer: () => Promise.reject(new Error('nothing to answer')),
      members: () => ({
        clusterId: CLUSTER,
        memberId: id,
        index: 0,
        members: [],
        removed: [],
      }),
      openSnapshot: () => Promise.reject(new Error('no snapshot is taken')),
      snapshotReceived: () => Promise.reject(new Error('no snapshot is taken')),
      ...options.handlers,
    },
  });
  return { id, transport, url, received, told, sentences, warnings, incarnation };
}

export const rosterOf = (
  self: Rig,
  members: readonly { readonly id: bigint; readonly url: string }[],
  change: Partial<PeerRoster> = {},
): PeerRoster => ({
  index: 0,
  peers: members.filter(({ id }) => id !== self.id).map(({ id, url }) => ({ id, urls: [url] })),
  removed: [],
  ...change,
});

/** Tells each of all the others. */
export function introduce(...rigs: readonly Rig[]): void {
  for (const rig of rigs) rig.transport.setPeers(rosterOf(rig, rigs));
}

export const heartbeat = (from: bigint, to: bigint, context: number): Message => ({
  kind: 'heartbeat',
  from,
  to,
  term: 1,
  commit: 0,
  context,
});

export const appendOf = (
  from: bigint,
  to: bigint,
  prevIndex: number,
  contents: readonly Uint8Array[],
): Message => ({
  kind: 'append',
  from,
  to,
  term: 1,
  prevIndex,
  prevTerm: prevIndex === 0 ? 0 : 1,
  commit: 0,
  entries: contents.map((data, at) => ({
    index: prevIndex + 1 + at,
    term: 1,
    kind: 'command',
    data,
  })),
});

/** Resolves when each of them is connected to all the others. */
export const connected = (...rigs: readonly Rig[]) =>
  waitFor('connections', () => {
    const isConnected = (rig: Rig) =>
      rigs.every(({ id }) => id === rig.id || rig.transport.connectedMs(id) !== undefined);
    return rigs.every(isConnected) || undefined;
  });

/** Resolves when that line was told. */
export const told = (rig: Rig, line: string) =>
  waitFor(`"${line}"`, () => rig.told.includes(line) || undefined);

/** What a test has to close at its end. */
export class Ends {
  readonly #ends: (() => Promise<void>)[] = [];

  async open(id: bigint, options?: RigOptions): Promise<Rig> {
    const rig = await openRig(id, options);
    this.add(() => rig.transport.close());
    return rig;
  }

  add(end: () => Promise<void>): void {
    this.#ends.push(end);
  }

  /** Cuts whoever connects to that port; the times when somebody did. */
  async cutting(port: number): Promise<readonly number[]> {
    const attemptsMs: number[] = [];
    const place = createServer((socket) => {
      attemptsMs.push(performance.now());
      socket.destroy();
    });
    await once(place.listen(port, '127.0.0.1'), 'listening');
    this.add(() => new Promise((resolve) => void place.close(() => resolve())));
    return attemptsMs;
  }

  async close(): Promise<void> {
    await Promise.all(this.#ends.splice(0).map((end) => end()));
  }
}
