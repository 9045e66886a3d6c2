/** A TCP proxy that misbehaves on request: it cuts, stalls, refuses, and loses or delays answers. */
import { createConnection, createServer, type Server, type Socket } from 'node:net';

type Pair = { readonly client: Socket; readonly server: Socket };

export class TcpProxy implements AsyncDisposable {
  /** host:port where clients connect. */
  readonly endpoint: string;
  /** Connections accepted so far. */
  accepted = 0;
  readonly #listener: Server;
  readonly #pairs: Set<Pair>;
  #refusing = false;
  #stalled = false;
  #losingAnswers = false;
  /** Answers on hold, in order. */
  #held: (() => void)[] | undefined;
  /** Bytes that came from clients. */
  requestBytes = 0;

  private constructor(listener: Server, pairs: Set<Pair>, port: number) {
    this.#listener = listener;
    this.#pairs = pairs;
    this.endpoint = `127.0.0.1:${port}`;
  }

  static async to(target: string): Promise<TcpProxy> {
    const [host = '127.0.0.1', port = ''] = target.split(':');
    const pairs = new Set<Pair>();
    let proxy: TcpProxy | undefined;
    const listener = createServer((client) => {
      proxy?.accept(client, createConnection({ host, port: Number(port) }));
    });
    await new Promise<void>((resolve, reject) => {
      listener.once('error', reject);
      listener.listen(0, '127.0.0.1', resolve);
    });
    const address = listener.address();
    if (typeof address !== 'object' || address === null) throw new Error('the proxy has no port');
    proxy = new TcpProxy(listener, pairs, address.port);
    return proxy;
  }

  get connections(): number {
    return this.#pairs.size;
  }

  /** Breaks every connection; new ones are accepted. */
  cut(): void {
    for (const { client, server } of [...this.#pairs]) {
      client.destroy();
      server.destroy();
    }
  }

  /** Breaks every connection and accepts none until `heal`. */
  refuse(): void {
    this.#refusing = true;
    this.cut();
  }

  /** Nothing passes either way until `heal`; connections stay open. */
  stall(): void {
    this.#stalled = true;
  }

  /** Requests pass, answers are lost, until `heal`. */
  loseAnswers(): void {
    this.#losingAnswers = true;
  }

  /** Requests pass, answers wait for `heal`. */
  holdAnswers(): void {
    this.#held ??= [];
  }

  heal(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const release of held) release();
    this.#refusing = false;
    this.#stalled = false;
    this.#losingAnswers = false;
  }

  async close(): Promise<void> {
    this.refuse();
    await new Promise<void>((resolve) => this.#listener.close(() => resolve()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  private accept(client: Socket, server: Socket): void {
    if (this.#refusing) {
      client.destroy();
      server.destroy();
      return;
    }
    this.accepted += 1;
    const pair = { client, server };
    this.#pairs.add(pair);
    const end = () => {
      this.#pairs.delete(pair);
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) {
      socket.setNoDelay(true);
      socket.on('error', end);
      socket.on('close', end);
    }
    client.on('data', (data) => {
      this.requestBytes += data.length;
      if (!this.#stalled) server.write(data);
    });
    server.on('data', (data) => {
      if (this.#stalled || this.#losingAnswers) return;
      if (this.#held === undefined) client.write(data);
      else this.#held.push(() => client.write(data));
    });
  }
}
