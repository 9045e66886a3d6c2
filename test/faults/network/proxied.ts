/**
 * Everything on the loopback, with a proxy in front of each member's peer port. Who opened a
 * connection tells which link it belongs to, so that each direction of each link is cut by itself:
 * what is sent waits in the proxy, as packets wait to be sent again, and arrives when the link heals.
 */
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { freePort } from '../../support/process.ts';
import { connectionOwner } from './connection-owner.ts';
import type { Network, Site } from './network.ts';

type Pipe = { readonly from: number; readonly to: number; readonly source: Socket };

export class ProxiedNetwork implements Network {
  readonly kind = 'proxies';
  readonly #sites = new Map<number, Site>();
  readonly #pids = new Map<number, number>();
  readonly #listeners: Server[] = [];
  readonly #pipes = new Set<Pipe>();
  readonly #cuts = new Set<string>();
  #held = 0;

  async site(index: number): Promise<Site> {
    const known = this.#sites.get(index);
    if (known !== undefined) return known;
    const peer = await freePort();
    const listener = createServer({ pauseOnConnect: true }, (socket) =>
      this.#accept(socket, index, peer),
    );
    await new Promise<void>((resolve, reject) => {
      listener.once('error', reject);
      listener.listen(0, '127.0.0.1', resolve);
    });
    this.#listeners.push(listener);
    const address = listener.address();
    if (typeof address !== 'object' || address === null) throw new Error('the proxy has no port');
    const site = {
      prefix: [],
      client: `127.0.0.1:${await freePort()}`,
      peer: `127.0.0.1:${peer}`,
      advertisedPeer: `127.0.0.1:${address.port}`,
    };
    this.#sites.set(index, site);
    return site;
  }

  occupy(index: number, pid: number): void {
    this.#pids.set(index, pid);
  }

  async cut(from: number, to: number): Promise<void> {
    this.#cuts.add(`${from}>${to}`);
    for (const pipe of this.#pipes) if (this.#isCut(pipe)) this.#hold(pipe.source);
  }

  async heal(): Promise<void> {
    this.#cuts.clear();
    this.#held = 0;
    for (const { source } of this.#pipes) source.resume();
  }

  async lost(): Promise<number> {
    return this.#held;
  }

  async close(): Promise<void> {
    for (const { source } of this.#pipes) source.destroy();
    await Promise.all(
      this.#listeners.map(
        (listener) => new Promise<void>((resolve) => listener.close(() => resolve())),
      ),
    );
  }

  #isCut({ from, to }: Pipe): boolean {
    return this.#cuts.has(`${from}>${to}`);
  }

  #hold(source: Socket): void {
    source.pause();
    this.#held += 1;
  }

  #accept(outer: Socket, to: number, port: number): void {
    const from = connectionOwner(outer.remotePort ?? 0, this.#pids) ?? -1;
    const inner = createConnection({ host: '127.0.0.1', port });
    const pipes = [
      { from, to, source: outer, target: inner },
      { from: to, to: from, source: inner, target: outer },
    ];
    const end = () => {
      for (const pipe of pipes) this.#pipes.delete(pipe);
      // As with a real link, the end of one side is not told while the link is cut.
      if (pipes.some((pipe) => this.#isCut(pipe))) setTimeout(end, endPollMs).unref();
      else for (const { source } of pipes) source.destroy();
    };
    for (const pipe of pipes) {
      this.#pipes.add(pipe);
      pipe.source.setNoDelay(true);
      pipe.source.on('error', end);
      pipe.source.on('close', end);
      pipe.source.on('data', (data) => {
        if (!pipe.target.write(data)) pipe.source.pause();
      });
      pipe.target.on('drain', () => {
        if (!this.#isCut(pipe)) pipe.source.resume();
      });
      if (this.#isCut(pipe)) this.#hold(pipe.source);
      else pipe.source.resume();
    }
  }
}

const endPollMs = 50;
