/**
 * The transport between members that run as processes of their own: gRPC over HTTP/2.
 *
 * ```
 *    this member                                  other member
 *    PeerLink ──── Heartbeats, Appends, Ask ────▶ PeerServer      (one connection)
 *    PeerServer ◀─── Heartbeats, Appends, Ask ─── PeerLink        (one connection)
 *    sendSnapshot ─────── Snapshot ─────────────▶ PeerServer      (one for each)
 * ```
 *
 * A member that dies closes its sockets: whichever of the two connections breaks first is reported,
 * once. Everything that waits to be sent or handed on is bounded.
 */
import type { Logger } from 'pino';
import { Fault } from '../faults.ts';
import { idToHex } from '../ids.ts';
import type { Clock, PeerBook, Random, Timers } from '../ports.ts';
import type { Message } from '../raft/message.ts';
import type { OutgoingSnapshot } from '../storage/transfer.ts';
import type { ClientSession } from './client-session.ts';
import { type GateFacts, type Refusal, refusalOf } from './gatekeeper.ts';
import { helloHeaders, parseHello } from './hello.ts';
import { type LinkOptions, PeerLink } from './peer-link.ts';
import type { PeerListener } from './peer-listener.ts';
import { peerMethods } from './peer-methods.ts';
import { type PeerConnection, PeerServer } from './peer-server.ts';
import { TICKS_PER_ELECTION_TIMEOUT } from './silence.ts';
import { sendSnapshot } from './snapshot-sender.ts';
import { type TrafficOf, uncounted } from './traffic.ts';
import {
  type AskOptions,
  type Hello,
  type PeerRoster,
  PROTOCOL_VERSION,
  type Question,
  type Replies,
  type SnapshotMessage,
  SnapshotSendError,
  type Transport,
  type TransportHandlers,
} from './transport.ts';

/** Entries on their way to one member, beyond what Raft itself has in flight. */
const QUEUE_BYTES = 32 * 1024 * 1024;
/** One frame: an append message of Raft with one entry of the largest size. */
const FRAME_BYTES = 16 * 1024 * 1024;

export type PeerTransportOptions = {
  readonly identity: {
    readonly clusterId: bigint;
    readonly memberId: bigint;
    readonly incarnation: bigint;
  };
  /** Where the others reach this member. */
  readonly urls: readonly string[];
  /** Taken over; absent for a member that is alone. */
  readonly listener?: PeerListener;
  readonly electionTimeoutMs: number;
  readonly peerBook: PeerBook;
  readonly handlers: TransportHandlers;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly logger: Logger;
  /** @default counts nothing */
  readonly trafficOf?: TrafficOf;
  /** Above the largest entry; the same on all members. @default 16 MiB */
  readonly maxFrameBytes?: number;
};

export class PeerTransport implements Transport {
  readonly #options: PeerTransportOptions;
  readonly #handlers: TransportHandlers;
  readonly #session: bigint;
  readonly #server: PeerServer;
  readonly #peers = new Map<bigint, PeerState>();
  readonly #uploads = new Set<ClientSession>();
  readonly #linkOptions: LinkOptions;
  readonly #trafficOf: TrafficOf;
  #stopTicking: (() => void) | undefined;
  readonly #facts: GateFacts;
  #roster: PeerRoster = { index: 0, peers: [], removed: [] };
  #members: ReadonlySet<bigint> = new Set();
  #removed: ReadonlySet<bigint> = new Set();
  #closed: Promise<void> | undefined;

  constructor(options: PeerTransportOptions) {
    const { clock, timers, random, logger, peerBook, handlers } = options;
    const { clusterId, memberId } = options.identity;
    this.#options = options;
    this.#handlers = handlers;
    this.#session = random.id();
    const roster = () => this.#roster;
    this.#facts = {
      clusterId,
      memberId,
      get configurationIndex() {
        return roster().index;
      },
      isMember: (id) => this.#members.has(id),
      isRemoved: (id) => this.#removed.has(id),
      knownIncarnation: (id) => peerBook.known(id),
      connectedSession: (id) => this.#inbound(id)?.hello?.session,
    };
    const frameBytes = options.maxFrameBytes ?? FRAME_BYTES;
    const introduce = (to: bigint): Hello => this.#introduce(to);
    const trafficOf = options.trafficOf ?? uncounted;
    this.#trafficOf = trafficOf;
    this.#linkOptions = {
      clock,
      timers,
      random,
      logger,
      limits: { frameBytes, queueBytes: Math.max(QUEUE_BYTES, 2 * frameBytes) },
      introduce,
      trafficOf,
      admit: (hello) => this.#admit(hello),
      connected: ({ id }) => this.#established(id),
      disconnected: ({ id }) => this.#broken(id),
      refused: ({ id }, code, sentence) => handlers.refused(id, code, sentence),
    };
    this.#server = new PeerServer({
      maxMessageBytes: frameBytes,
      timers,
      nowMs: () => clock.nowMs(),
      logger,
      refusal: (hello) => refusalOf(hello, this.#facts),
      trust: (hello) => this.#trust(hello),
      introduce,
      ...peerMethods({
        memberId,
        handlers,
        logger,
        trafficOf,
        arrived: (connection, hello) => this.#arrived(connection, hello),
      }),
      closed: (connection) => this.#departed(connection),
    });
    if (options.listener === undefined) return;
    options.listener.serve((socket) => this.#server.accept(socket));
    this.#startTicking();
  }

  setPeers(roster: PeerRoster): void {
    if (this.#closed !== undefined) return;
    this.#roster = roster;
    this.#members = new Set(roster.peers.map(({ id }) => id));
    this.#removed = new Set(roster.removed);
    for (const connection of this.#server.connections) {
      const refusal = connection.hello && refusalOf(connection.hello, this.#facts);
      if (refusal !== undefined) connection.refuse(refusal);
    }
    for (const { id, urls } of roster.peers) {
      const state = this.#peers.get(id);
      if (state === undefined) this.#connect(id, urls);
      else state.link.urls = urls;
    }
    for (const id of this.#peers.keys()) {
      if (!this.#members.has(id) && this.#inbound(id) === undefined) this.#forget(id);
    }
  }

  send(messages: readonly Message[]): void {
    const [first] = messages;
    if (first === undefined) return;
    if (messages.every(({ to }) => to === first.to)) {
      this.#peers.get(first.to)?.link.send(messages);
      return;
    }
    const byPeer = new Map<bigint, Message[]>();
    for (const message of messages) {
      const list = byPeer.get(message.to);
      if (list === undefined) byPeer.set(message.to, [message]);
      else list.push(message);
    }
    for (const [to, list] of byPeer) this.#peers.get(to)?.link.send(list);
  }

  async ask<K extends Question['kind']>(
    to: bigint,
    question: Extract<Question, { kind: K }>,
    options: AskOptions,
  ): Promise<Replies[K]> {
    const link = this.#peers.get(to)?.link;
    if (link === undefined) throw new Fault('timeout-due-to-connection-lost');
    // The asker has checked that the reply is one to this kind of question.
    return (await link.ask(question, options)) as Replies[K];
  }

  async sendSnapshot(
    to: bigint,
    message: SnapshotMessage,
    source: OutgoingSnapshot,
    signal: AbortSignal,
  ): Promise<void> {
    const link = this.#peers.get(to)?.link;
    if (link === undefined) throw new SnapshotSendError(`member ${idToHex(to)} is not known`);
    await sendSnapshot({
      urls: link.urls,
      headers: () => helloHeaders(this.#introduce(to)),
      check: async (headers) => {
        const hello = parseHello(headers);
        const refusal = await this.#admit(hello);
        if (refusal !== undefined) throw new SnapshotSendError(refusal.sentence);
        if (hello.from !== to) throw new SnapshotSendError(`${idToHex(hello.from)} answers there`);
      },
      message,
      source,
      signal,
      timers: this.#options.timers,
      watch: (session) => this.#uploads.add(session),
    });
    this.#trafficOf(to).sentBytes += source.sizeBytes;
  }

  connectedMs(id: bigint): number | undefined {
    const sinceMs = this.#peers.get(id)?.upSinceMs;
    return sinceMs === undefined ? undefined : this.#options.clock.nowMs() - sinceMs;
  }

  close(): Promise<void> {
    this.#closed ??= this.#shutDown();
    return this.#closed;
  }

  async #shutDown(): Promise<void> {
    this.#stopTicking?.();
    const listening = this.#options.listener?.close();
    // What was written in this turn is handed to the system in the next.
    for (let turn = 0; turn < 2; turn += 1) {
      await new Promise<void>((resolve) => this.#options.timers.soon(resolve));
    }
    for (const { link } of this.#peers.values()) link.close();
    this.#peers.clear();
    for (const upload of this.#uploads) upload.abort('this member stops');
    this.#server.close();
    await listening;
  }

  #startTicking(): void {
    const { electionTimeoutMs, timers } = this.#options;
    const tickMs = electionTimeoutMs / TICKS_PER_ELECTION_TIMEOUT;
    this.#stopTicking ??= timers.every(tickMs, () => this.#tick());
  }

  #tick(): void {
    this.#server.tick();
    for (const { link } of this.#peers.values()) link.tick();
    for (const upload of this.#uploads) {
      if (upload.isOver) this.#uploads.delete(upload);
      else upload.tick();
    }
  }

  #introduce(to: bigint): Hello {
    const { identity, urls } = this.#options;
    return {
      protocolVersion: PROTOCOL_VERSION,
      clusterId: identity.clusterId,
      from: identity.memberId,
      to,
      incarnation: identity.incarnation,
      session: this.#session,
      configurationIndex: this.#roster.index,
      urls,
    };
  }

  async #admit(hello: Hello): Promise<Refusal | undefined> {
    const refusal = refusalOf(hello, this.#facts);
    if (refusal !== undefined) return refusal;
    await this.#trust(hello);
    return refusalOf(hello, this.#facts);
  }

  /** Remembers the member's data directory, durably, before anything of it is believed. */
  async #trust({ from, incarnation }: Hello): Promise<void> {
    const { peerBook } = this.#options;
    if (peerBook.known(from) !== undefined) return;
    try {
      await peerBook.remember(from, incarnation);
    } catch (error) {
      // Another connection was faster; the gate compares the two.
      if (peerBook.known(from) === undefined) throw error;
    }
  }

  /** The connection that carries this member's messages, if it stands. */
  #inbound(id: bigint): PeerConnection | undefined {
    for (const connection of this.#server.connections) {
      if (connection.hasMessages && connection.hello?.from === id) return connection;
    }
    return undefined;
  }

  #connect(id: bigint, urls: readonly string[]): void {
    this.#startTicking();
    const link = new PeerLink({ id, urls }, this.#linkOptions);
    this.#peers.set(id, { link, upSinceMs: undefined, isReported: false });
  }

  #forget(id: bigint): void {
    this.#peers.get(id)?.link.close();
    this.#peers.delete(id);
  }

  #arrived(connection: PeerConnection, { from, urls }: Hello): void {
    connection.hasMessages = true;
    const link = this.#peers.get(from)?.link;
    // A member whose adding is not applied here yet: it waits for answers.
    if (link === undefined) this.#connect(from, urls);
    else link.hurry();
    this.#established(from);
  }

  #departed({ hello, hasMessages }: PeerConnection): void {
    if (hello === undefined || !hasMessages) return;
    // It has connected again before the end of the earlier connection was seen.
    if (this.#inbound(hello.from) !== undefined) return;
    if (!this.#members.has(hello.from)) this.#forget(hello.from);
    else this.#broken(hello.from);
  }

  #established(id: bigint): void {
    const state = this.#peers.get(id);
    if (state === undefined) return;
    state.isReported = false;
    if (!state.link.isConnected || this.#inbound(id) === undefined) return;
    state.upSinceMs = this.#options.clock.nowMs();
    this.#handlers.reachable(id);
  }

  #broken(id: bigint): void {
    const state = this.#peers.get(id);
    if (state === undefined) return;
    state.upSinceMs = undefined;
    if (state.isReported) return;
    state.isReported = true;
    this.#handlers.unreachable(id);
  }
}

type PeerState = {
  readonly link: PeerLink;
  /** Both connections stand since then. */
  upSinceMs: number | undefined;
  /** The break was told, and nothing was connected since. */
  isReported: boolean;
};
