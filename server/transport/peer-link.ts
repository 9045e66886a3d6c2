/**
 * This member's own connection to another one: kept up, and used to send messages and to ask. What
 * comes back from there comes on the other member's connection to this one.
 */
import type { Logger } from 'pino';
import { idToHex } from '../ids.ts';
import type { Clock, Random, Timers } from '../ports.ts';
import type { Message } from '../raft/message.ts';
import { Asker } from './asker.ts';
import type { ClientCall } from './client-call.ts';
import { ClientSession } from './client-session.ts';
import { isRefusalCode, type Refusal } from './gatekeeper.ts';
import { CallError } from './grpc.ts';
import { type HelloError, helloHeaders, parseHello } from './hello.ts';
import { Lane, type LaneLimits } from './lane.ts';
import { TICKS_PER_ELECTION_TIMEOUT } from './silence.ts';
import type { PeerTraffic, TrafficOf } from './traffic.ts';
import type { AskOptions, Hello, Peer, Question, RefusalCode, Reply } from './transport.ts';

export const HEARTBEATS_PATH = '/conclave.v1.Peer/Heartbeats';
export const APPENDS_PATH = '/conclave.v1.Peer/Appends';

const BACKOFF_MS_MIN = 10;
const BACKOFF_MS_MAX = 500;
/** A connection that lasted this long was not part of a flapping link. */
const STEADY_MS = 1_000;
/** From the attempt to connect until messages may be sent. */
const DIAL_TICKS = 3 * TICKS_PER_ELECTION_TIMEOUT;
const HEARTBEAT_QUEUE_BYTES = 1024 * 1024;

export type LinkOptions = {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly logger: Logger;
  readonly limits: LaneLimits;
  readonly introduce: (to: bigint) => Hello;
  readonly trafficOf: TrafficOf;
  /** Whether the member that answers is the one that was meant. */
  readonly admit: (hello: Hello) => Promise<Refusal | undefined>;
  readonly connected: (link: PeerLink) => void;
  /** It broke, or an attempt to connect failed. */
  readonly disconnected: (link: PeerLink) => void;
  /** The other member does not let this one in. */
  readonly refused: (link: PeerLink, code: RefusalCode, sentence: string) => void;
};

export class PeerLink {
  readonly id: bigint;
  readonly #options: LinkOptions;
  readonly #heartbeats: Lane;
  readonly #appends: Lane;
  readonly #asker: Asker;
  readonly #traffic: PeerTraffic;
  #urls: readonly string[];
  #session: ClientSession | undefined;
  #connectedAtMs: number | undefined;
  #failures = 0;
  #attempts = 0;
  #dialTicks = 0;
  #cancelRetry: (() => void) | undefined;
  #lastWarning = '';
  #isClosed = false;

  constructor(peer: Peer, options: LinkOptions) {
    this.id = peer.id;
    this.#urls = peer.urls;
    this.#options = options;
    const dropped = (messages: number, bytes: number) => this.#dropped(messages, bytes);
    const traffic = options.trafficOf(peer.id);
    const heartbeatLimits = { ...options.limits, queueBytes: HEARTBEAT_QUEUE_BYTES };
    this.#traffic = traffic;
    this.#appends = new Lane(options.limits, traffic, dropped);
    this.#heartbeats = new Lane(heartbeatLimits, traffic, dropped);
    this.#asker = new Asker({
      timers: options.timers,
      open: (path, handlers) =>
        this.isConnected ? this.#session?.call(path, this.#headers(), handlers) : undefined,
    });
    this.#dial();
  }

  get isConnected(): boolean {
    return this.#connectedAtMs !== undefined;
  }

  get urls(): readonly string[] {
    return this.#urls;
  }

  /** Takes effect with the next connection. */
  set urls(urls: readonly string[]) {
    this.#urls = urls;
  }

  send(messages: readonly Message[]): void {
    if (!this.isConnected) {
      this.#traffic.sentFailures += messages.length;
      return;
    }
    if (messages.every(isLong)) this.#appends.send(messages);
    else {
      this.#heartbeats.send(messages.filter((message) => !isLong(message)));
      this.#appends.send(messages.filter(isLong));
    }
  }

  ask(question: Question, options: AskOptions): Promise<Reply> {
    return this.#asker.ask(question, options);
  }

  tick(): void {
    this.#session?.tick();
    if (this.#session === undefined || this.isConnected) return;
    this.#dialTicks += 1;
    if (this.#dialTicks >= DIAL_TICKS) this.#session.abort('it did not let this member in in time');
  }

  /** The other member is known to be there: connects now if it is not connected. */
  hurry(): void {
    if (this.#cancelRetry === undefined) return;
    this.#cancelRetry();
    this.#failures = 0;
    this.#dial();
  }

  close(): void {
    this.#isClosed = true;
    this.#cancelRetry?.();
    this.#release();
  }

  #headers(): Record<string, string> {
    return helloHeaders(this.#options.introduce(this.id));
  }

  #dial(): void {
    this.#cancelRetry = undefined;
    const url = this.#urls[this.#attempts % Math.max(1, this.#urls.length)];
    this.#attempts += 1;
    this.#dialTicks = 0;
    if (url === undefined) return;
    let session: ClientSession;
    const fail = (error: Error) => {
      if (this.#session === session) this.#broken(error, url);
    };
    try {
      session = new ClientSession(url, fail, (durationMs) => this.#traffic.roundTrip(durationMs));
    } catch (error) {
      this.#options.logger.error({ err: error, peer: idToHex(this.id) }, 'cannot use a peer URL');
      this.#retry();
      return;
    }
    this.#session = session;
    const open = (path: string): Promise<[ClientCall, Hello]> =>
      new Promise((resolve) => {
        const call = session.call(path, this.#headers(), {
          accepted: (headers) => {
            try {
              resolve([call, parseHello(headers)]);
            } catch (error) {
              fail(error as HelloError);
            }
          },
          message: () => {},
          end: (error) => fail(error ?? new Error('the other member ended the stream')),
        });
      });
    void Promise.all([open(HEARTBEATS_PATH), open(APPENDS_PATH)]).then(
      async ([[heartbeats, hello], [appends]]) => {
        const refusal = await this.#check(hello);
        if (this.#session !== session) return;
        if (refusal !== undefined) {
          fail(new Error(refusal));
          return;
        }
        this.#heartbeats.connect(heartbeats);
        this.#appends.connect(appends);
        this.#connectedAtMs = this.#options.clock.nowMs();
        this.#lastWarning = '';
        this.#options.connected(this);
      },
    );
  }

  async #check(hello: Hello): Promise<string | undefined> {
    if (hello.from !== this.id) {
      return `member ${idToHex(hello.from)} answers there, instead of member ${idToHex(this.id)}`;
    }
    try {
      return (await this.#options.admit(hello))?.sentence;
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  }

  #broken(error: Error, url: string): void {
    const { logger } = this.#options;
    const lastedMs =
      this.#options.clock.nowMs() - (this.#connectedAtMs ?? Number.POSITIVE_INFINITY);
    this.#failures = lastedMs >= STEADY_MS ? 0 : this.#failures + 1;
    this.#release();
    this.#retry();
    this.#options.disconnected(this);
    // The same trouble over and over is said once.
    if (error.message === this.#lastWarning) return;
    this.#lastWarning = error.message;
    logger.warn({ peer: idToHex(this.id), url }, `not connected to a member: ${error.message}`);
    if (error instanceof CallError && isRefusalCode(error.refusal)) {
      this.#options.refused(this, error.refusal, error.message);
    }
  }

  #retry(): void {
    if (this.#isClosed) return;
    const ceiling = Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** Math.min(this.#failures, 10));
    // At least half of it: two members that cannot reach each other do not try in step.
    const delayMs = ceiling / 2 + this.#options.random.below(Math.ceil(ceiling / 2) + 1);
    this.#cancelRetry = this.#options.timers.after(delayMs, () => this.#dial());
  }

  #release(): void {
    this.#heartbeats.connect(undefined);
    this.#appends.connect(undefined);
    this.#connectedAtMs = undefined;
    const session = this.#session;
    this.#session = undefined;
    session?.close();
  }

  #dropped(messages: number, bytes: number): void {
    this.#options.logger.debug(
      { peer: idToHex(this.id), messages, bytes },
      'messages were dropped',
    );
  }
}

/** Entries may be many and late; everything else is short and must be on time. */
const isLong = ({ kind }: Message): boolean => kind === 'append' || kind === 'propose';
