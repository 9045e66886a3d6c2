/** One client process: the shipped SDK and recipes over simulated connections. */
import { Status } from 'nice-grpc-common';
import { Conclave } from '../../../recipes/connect.ts';
import { connectOver } from '../../../sdk/connect.ts';
import { type MethodName, methods, type RequestOf, type ResponseOf } from '../../../sdk/methods.ts';
import {
  type AttemptOptions,
  type MemberTransport,
  type StreamOptions,
  TransportFailure,
} from '../../../sdk/transport.ts';
import { Lanes } from '../../../sdk/transport-lanes.ts';
import { UnaryTransport } from '../../../sdk/transport-unary.ts';
import { Method } from '../../../server/wire/conclave/v1/batch.ts';
import type { WatchRequest, WatchResponse } from '../../../server/wire/etcdserverpb/rpc.ts';
import type { Engine } from '../engine/engine.ts';
import type { Network } from '../network.ts';
import { SimChannel } from './channel.ts';
import { clientUrlOf, type FullMember } from './member.ts';
import { type Clocks, type Life, SimProcess } from './process.ts';

/** Clients are numbered from here on the network. */
export const FIRST_CLIENT = 40;

export type ClientOptions = {
  readonly engine: Engine;
  readonly number: number;
  readonly clocks: Clocks;
  readonly network: Network<() => void>;
  /** Those that it may connect to. */
  readonly members: readonly number[];
  readonly memberOf: (number: number) => FullMember | undefined;
  readonly requestTimeoutMs: number;
};

export class FullClient {
  readonly name: string;
  readonly process: SimProcess;
  readonly #options: ClientOptions;

  constructor(options: ClientOptions) {
    const { engine, number, clocks } = options;
    this.#options = options;
    this.name = `client ${number - FIRST_CLIENT}`;
    this.process = new SimProcess(engine, number, this.name, clocks);
  }

  /** A new connection of a new life of the process. */
  async connect(life: Life): Promise<Conclave> {
    const { engine, number, members, requestTimeoutMs } = this.#options;
    const site = engine.decisions.site('client', `sdk ${number}`);
    const client = await connectOver(
      { openTransport: (endpoint) => this.#open(endpoint.name, life) },
      {
        endpoints: members.map(clientUrlOf),
        clock: life,
        random: () => site.below(1 << 30) / (1 << 30),
        connectTimeout: 3_600_000,
        requestTimeout: requestTimeoutMs,
      },
    );
    return new Conclave(client);
  }

  #open(target: string, life: Life): MemberTransport {
    const { number, members, memberOf, network } = this.#options;
    const at = members.find((each) => clientUrlOf(each) === target) ?? 0;
    const toServer = network.link(number, at);
    const toClient = network.link(at, number);
    return new SimMemberTransport({
      life,
      dial: (accepted, refused) => {
        toServer.carryReliably(
          () => {
            const running = memberOf(at)?.running;
            const answer = (act: () => void) =>
              toClient.carryReliably(
                () => life.run(act),
                () => undefined,
              );
            if (running === undefined || memberOf(at)?.process.isPaused === true) {
              answer(refused);
              return;
            }
            const server = running.endpoint.life;
            const { accept } = running.services;
            const channel = () =>
              new SimChannel({ target, client: life, server, accept, toServer, toClient });
            answer(() => (server.isAlive ? accepted(channel()) : refused()));
          },
          () => undefined,
        );
      },
    });
  }
}

type TransportOptions = {
  readonly life: Life;
  /** Calls one of them, or neither when nothing comes back. */
  readonly dial: (accepted: (channel: SimChannel) => void, refused: () => void) => void;
};

type Opened = {
  readonly channel: SimChannel;
  readonly unary: UnaryTransport;
  readonly lanes: Lanes;
};

class SimMemberTransport implements MemberTransport {
  readonly #connected: Promise<Opened>;
  #opened: Opened | undefined;
  #fail: (error: TransportFailure) => void = () => undefined;
  #isClosed = false;

  constructor({ life, dial }: TransportOptions) {
    this.#connected = new Promise((resolve, reject) => {
      this.#fail = reject;
      dial(
        (channel) => {
          if (this.#isClosed) {
            channel.close();
            return;
          }
          const unary = new UnaryTransport(channel.asChannel, life);
          this.#opened = { channel, unary, lanes: new Lanes(channel.asChannel, unary, life) };
          resolve(this.#opened);
        },
        () => reject(unreachable('connection refused')),
      );
    });
    this.#connected.catch(() => undefined);
  }

  get received(): number {
    return this.#opened?.lanes.received ?? 0;
  }

  async connected(): Promise<void> {
    await this.#connected;
  }

  async broken(): Promise<void> {
    const { channel } = await this.#connected;
    if (!channel.isOpen) return;
    await new Promise<void>((resolve) => {
      channel.watchConnectivityState(channel.getConnectivityState(), 0, () => resolve());
    });
  }

  async unary<M extends MethodName>(
    method: M,
    request: RequestOf<M>,
    options: AttemptOptions,
  ): Promise<ResponseOf<M>> {
    const { unary, lanes } = await this.#connected;
    const isBatched = methods[method].batch !== Method.UNSPECIFIED;
    return (isBatched ? lanes : unary).unary(method, request, options);
  }

  watch(
    requests: AsyncIterable<WatchRequest>,
    options: StreamOptions,
  ): AsyncIterable<WatchResponse> {
    if (this.#opened === undefined) throw unreachable('not connected');
    return this.#opened.unary.watch(requests, options);
  }

  snapshot(options: StreamOptions): ReturnType<UnaryTransport['snapshot']> {
    if (this.#opened === undefined) throw unreachable('not connected');
    return this.#opened.unary.snapshot(options);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#fail(unreachable('closed'));
    this.#opened?.lanes.close();
    this.#opened?.unary.close();
    this.#opened?.channel.close();
  }
}

const unreachable = (reason: string): TransportFailure =>
  new TransportFailure('status', Status.UNAVAILABLE, `Cannot reach the member: ${reason}`, false);
