/** The network face over a fake member, on a free port, and raw connections to it. */
import { connect, type Socket } from 'node:net';
import { Client, credentials } from '@grpc/grpc-js';
import { pino } from 'pino';
import { systemRandom } from '../../server/clock.ts';
import { Listener, type ListenerOptions } from '../../server/http/listener.ts';
import { PrometheusMetrics } from '../../server/http/prometheus.ts';
import { type RpcOptions, RpcServer } from '../../server/rpc/server.ts';
import { FakeMember, type FakeMemberOptions } from './fake-member.ts';
import { connectWire, type WireClient } from './wire-client.ts';

export type FaceOptions = FakeMemberOptions & {
  readonly rpc?: Partial<RpcOptions>;
  readonly listener?: Partial<ListenerOptions>;
};

export class Face implements AsyncDisposable {
  readonly member: FakeMember;
  readonly listener: Listener;
  readonly rpc: RpcServer;
  readonly logger = pino({ level: 'silent' });
  readonly #disposals: (() => void)[] = [];
  #isClosed = false;

  private constructor(member: FakeMember, rpc: RpcServer, listener: Listener) {
    this.member = member;
    this.rpc = rpc;
    this.listener = listener;
  }

  static async open({ rpc, listener, ...member }: FaceOptions = {}): Promise<Face> {
    const fake = new FakeMember(member);
    const metrics = new PrometheusMetrics({ member: fake, processMetrics: false });
    const common = { member: fake, logger: pino({ level: 'silent' }) };
    const server = await RpcServer.open({
      ...common,
      random: systemRandom,
      observer: metrics,
      ...rpc,
    });
    const urls = ['http://127.0.0.1:0'];
    const opened = await Listener.open({ ...common, urls, rpc: server, metrics, ...listener });
    return new Face(fake, server, opened);
  }

  get url(): string {
    return this.listener.urls[0] ?? '';
  }

  get endpoint(): string {
    return this.url.replace('http://', '');
  }

  wire(): WireClient {
    const client = connectWire(this.endpoint);
    this.#disposals.push(() => client.close());
    return client;
  }

  /** A client that sends and receives bytes as they are. */
  raw(): Client {
    const client = new Client(this.endpoint, credentials.createInsecure(), {
      'grpc.max_receive_message_length': -1,
      'grpc.use_local_subchannel_pool': 1,
    });
    this.#disposals.push(() => client.close());
    return client;
  }

  /** A TCP connection on which nothing was sent yet. */
  async socket(): Promise<Socket> {
    const socket = connect(Number(new URL(this.url).port), '127.0.0.1');
    this.#disposals.push(() => socket.destroy());
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    return socket;
  }

  async close(graceMs = 200): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.member.isStopping = true;
    await this.listener.close(graceMs);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const dispose of this.#disposals) dispose();
    await this.close();
  }
}
