/**
 * Between members: the `Transport` port over simulated links. Messages take their chances; questions
 * and states travel as on a connection. Who is reachable is looked at twice in an election timeout,
 * as pings would, and a killed process is noticed at once where the run says so.
 */
import { Fault } from '../../../server/faults.ts';
import type { PeerBook } from '../../../server/ports.ts';
import type { Message } from '../../../server/raft/message.ts';
import { chunkChecksum, type OutgoingSnapshot } from '../../../server/storage/transfer.ts';
import { decodeMessage } from '../../../server/transport/decode.ts';
import { encodeMessage } from '../../../server/transport/encode.ts';
import { type Refusal, refusalOf } from '../../../server/transport/gatekeeper.ts';
import {
  type AskOptions,
  type Hello,
  type MembersReply,
  type PeerRoster,
  PROTOCOL_VERSION,
  type Question,
  type Replies,
  type Reply,
  type SnapshotMessage,
  SnapshotSendError,
  type Transport,
  type TransportHandlers,
} from '../../../server/transport/transport.ts';
import type { Network } from '../network.ts';
import type { Life } from './process.ts';

/** Where a member is reached by the others. */
export type PeerEndpoint = {
  readonly id: bigint;
  readonly number: number;
  readonly life: Life;
  readonly incarnation: bigint;
  readonly handlers: TransportHandlers;
  readonly transport: SimPeerTransport;
};

/** Who a member is to the others. */
export type PeerSelf = {
  readonly id: bigint;
  readonly clusterId: bigint;
  readonly number: number;
  readonly incarnation: bigint;
  readonly book: PeerBook;
};

export type PeerNetwork = {
  readonly network: Network<() => void>;
  readonly electionTimeoutMs: number;
  /** Messages are encoded and decoded, as between machines. */
  readonly usesCodec: boolean;
  find(id: bigint): PeerEndpoint | undefined;
  onMessage(from: number, message: Message): void;
  onSnapshot(from: number, to: bigint): void;
};

/** Chunks of a state are this small, so that a transfer takes several. */
const CHUNK_BYTES = 4 * 1024;

export class SimPeerTransport implements Transport {
  readonly #peers: PeerNetwork;
  readonly #self: PeerSelf;
  readonly #life: Life;
  readonly #handlers: TransportHandlers;
  readonly #connectedSince = new Map<bigint, number>();
  readonly #doubtful = new Set<bigint>();
  /** Those that came although this member does not know yet that they are members. */
  readonly #visitors = new Set<bigint>();
  #roster: PeerRoster = { index: 0, peers: [], removed: [] };
  #isClosed = false;

  constructor(peers: PeerNetwork, self: PeerSelf, life: Life, handlers: TransportHandlers) {
    this.#peers = peers;
    this.#self = self;
    this.#life = life;
    this.#handlers = handlers;
    life.soon(() => this.#look());
    life.every(peers.electionTimeoutMs / 2, () => this.#look());
  }

  setPeers(roster: PeerRoster): void {
    this.#roster = roster;
    const known = new Set(roster.peers.map(({ id }) => id));
    for (const id of this.#connectedSince.keys())
      if (!known.has(id)) this.#connectedSince.delete(id);
  }

  connectedMs(id: bigint): number | undefined {
    const since = this.#connectedSince.get(id);
    return since === undefined ? undefined : this.#life.nowMs() - since;
  }

  hasRemoved(id: bigint): boolean {
    return this.#roster.removed.includes(id);
  }

  send(messages: readonly Message[]): void {
    if (!this.#life.isAlive || this.#isClosed) return;
    for (const message of messages) {
      if (!this.#connectedSince.has(message.to)) continue;
      const to = this.#peers.find(message.to);
      this.#peers.onMessage(this.#self.number, message);
      if (to === undefined) continue;
      const carried = this.#peers.usesCodec
        ? decodeMessage(encodeMessage(message), message.from, message.to)
        : message;
      this.#peers.network.send(this.#self.number, to.number, () =>
        this.#peers.find(message.to)?.transport.receive(this.#self.id, carried),
      );
    }
  }

  receive(from: bigint, message: Message): void {
    this.#life.run(() => {
      if (!this.#isClosed && !this.hasRemoved(from)) this.#handlers.receive(message);
    });
  }

  ask<K extends Question['kind']>(
    to: bigint,
    question: Extract<Question, { kind: K }>,
    { timeoutMs, signal }: AskOptions,
  ): Promise<Replies[K]> {
    return new Promise<Reply>((resolve, reject) => {
      const peer = this.#peers.find(to);
      const lost = () => reject(new Fault('timeout-due-to-connection-lost'));
      if (peer === undefined || !this.#connectedSince.has(to)) {
        lost();
        return;
      }
      const cancel = this.#life.after(timeoutMs, () => reject(new Fault('timeout')));
      const abandoned = new AbortController();
      const onAbort = () => {
        abandoned.abort();
        reject(new Fault('canceled'));
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      const settle = (act: () => void) => {
        cancel();
        signal?.removeEventListener('abort', onAbort);
        act();
      };
      const answer = (act: () => void) =>
        this.#carry(peer.number, this.#self.number, this.#life, () => settle(act));
      this.#carry(this.#self.number, peer.number, peer.life, () => {
        peer.handlers.answer(question, this.#self.id, abandoned.signal).then(
          (reply) => answer(() => resolve(reply)),
          (error: unknown) => answer(() => reject(error)),
        );
      });
      // The kind of a reply belongs to that of its question.
    }) as Promise<Replies[K]>;
  }

  async sendSnapshot(
    to: bigint,
    message: SnapshotMessage,
    source: OutgoingSnapshot,
    signal: AbortSignal,
  ): Promise<void> {
    const peer = this.#peers.find(to);
    this.#peers.onSnapshot(this.#self.number, to);
    if (peer === undefined) throw new SnapshotSendError('nobody is there');
    const incoming = await this.#exchange(peer, signal, () =>
      peer.handlers.openSnapshot(message, source),
    );
    for (let offset = incoming.offset; offset < source.sizeBytes; ) {
      const bytes = (await source.chunk(offset)).subarray(0, CHUNK_BYTES);
      const at = offset;
      await this.#exchange(peer, signal, () => incoming.write(at, bytes, chunkChecksum(bytes)));
      offset += bytes.length;
    }
    await this.#exchange(peer, signal, async () =>
      peer.handlers.snapshotReceived(message, await incoming.finish()),
    );
  }

  /** What a member that joins is told; undefined when nobody answers. */
  static members(peer: PeerEndpoint): MembersReply {
    return peer.handlers.members();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#connectedSince.clear();
  }

  /** The connection to it broke, as its process died, or the machine says so. */
  reset(id: bigint): void {
    this.#life.run(() => {
      if (this.#connectedSince.delete(id)) this.#handlers.unreachable(id);
    });
  }

  /** Over there, and back with what came of it. */
  #exchange<T>(peer: PeerEndpoint, signal: AbortSignal, act: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      let cancel: () => void = () => undefined;
      const settle = (end: () => void) => {
        cancel();
        signal.removeEventListener('abort', onAbort);
        end();
      };
      const onAbort = () => settle(() => reject(signal.reason));
      signal.addEventListener('abort', onAbort);
      cancel = this.#life.after(10 * this.#peers.electionTimeoutMs, () =>
        settle(() => reject(new SnapshotSendError('the connection broke'))),
      );
      const back = (end: () => void) =>
        this.#carry(peer.number, this.#self.number, this.#life, () => settle(end));
      this.#carry(this.#self.number, peer.number, peer.life, () => {
        act().then(
          (result) => back(() => resolve(result)),
          (error: unknown) => back(() => reject(error)),
        );
      });
    });
  }

  #carry(from: number, to: number, receiver: Life, arrive: () => void): void {
    this.#peers.network.link(from, to).carryReliably(
      () => receiver.run(arrive),
      () => undefined,
    );
  }

  /** Who is there now? One that was not there twice is lost. */
  #look(): void {
    if (this.#isClosed) return;
    for (const id of new Set([...this.#roster.peers.map((each) => each.id), ...this.#visitors])) {
      const peer = this.#peers.find(id);
      if (peer !== undefined && this.#isThere(peer)) {
        this.#doubtful.delete(id);
        if (!this.#connectedSince.has(id)) this.#greet(peer);
      } else if (this.#connectedSince.has(id)) {
        if (this.#doubtful.has(id)) this.reset(id);
        else this.#doubtful.add(id);
      }
    }
  }

  #isThere(peer: PeerEndpoint): boolean {
    const { network } = this.#peers;
    const { number } = this.#self;
    return (
      peer.life.isAlive &&
      !peer.life.process.isPaused &&
      !network.isCut(number, peer.number) &&
      !network.isCut(peer.number, number)
    );
  }

  #greet(peer: PeerEndpoint): void {
    const { id, clusterId, incarnation } = this.#self;
    const refusal = peer.transport.welcome({
      protocolVersion: PROTOCOL_VERSION,
      clusterId,
      from: id,
      to: peer.id,
      incarnation,
      session: incarnation,
      configurationIndex: this.#roster.index,
      urls: [],
    });
    if (refusal !== undefined) {
      this.#handlers.refused(peer.id, refusal.code, refusal.sentence);
      return;
    }
    this.#connectedSince.set(peer.id, this.#life.nowMs());
    this.#doubtful.delete(peer.id);
    this.#handlers.reachable(peer.id);
  }

  /** Lets another member in, or says why not; whoever comes in is visited in return. */
  welcome(hello: Hello): Refusal | undefined {
    const { id, clusterId, book } = this.#self;
    const { index, peers, removed } = this.#roster;
    const refusal = refusalOf(hello, {
      memberId: id,
      clusterId,
      configurationIndex: index,
      isMember: (member) => peers.some((peer) => peer.id === member),
      isRemoved: (member) => removed.includes(member),
      knownIncarnation: (member) => book.known(member),
      connectedSession: () => undefined,
    });
    if (refusal !== undefined) return refusal;
    book.remember(hello.from, hello.incarnation).catch(() => undefined);
    this.#visitors.add(hello.from);
    return undefined;
  }
}
