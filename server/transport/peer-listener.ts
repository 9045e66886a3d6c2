/** The ports on which the other members reach this one. */
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';

const BACKLOG = 256;

/**
 * Listens from `open` on, so that ports are known early; connections are cut until `serve` says who
 * takes them.
 */
export class PeerListener {
  readonly #configured: readonly string[];
  readonly #servers: Server[] = [];
  #accept: ((socket: Socket) => void) | undefined;

  private constructor(urls: readonly string[]) {
    this.#configured = urls;
  }

  /**
   * `http://host:port`; port 0 takes a free one. Throws a `TypeError` for a URL that it does not
   * understand, and the system's error when an address is taken.
   */
  static async open(urls: readonly string[]): Promise<PeerListener> {
    const listener = new PeerListener(urls);
    try {
      for (const url of urls) await listener.#listen(parsePeerUrl(url));
    } catch (error) {
      await listener.close();
      throw error;
    }
    return listener;
  }

  /** Where it listens, in the order given, with the ports that were taken. */
  get urls(): readonly string[] {
    return this.#servers.map((server, index) => {
      const address = server.address();
      const url = new URL(this.#configured[index] ?? '');
      if (isTcp(address)) url.port = String(address.port);
      return url.href.replace(/\/$/, '');
    });
  }

  serve(accept: (socket: Socket) => void): void {
    this.#accept = accept;
  }

  /** Takes no more connections; those that were handed over are their taker's. */
  async close(): Promise<void> {
    this.#accept = undefined;
    for (const server of this.#servers) server.close();
    this.#servers.length = 0;
    // The ports are free when the system has been told, in the next turn.
    await new Promise<void>((resolve) => setImmediate(resolve));
  }

  async #listen(address: { readonly host: string; readonly port: number }): Promise<void> {
    const server = createServer({ noDelay: true }, (socket) => {
      if (this.#accept === undefined) socket.destroy();
      else this.#accept(socket);
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ ...address, backlog: BACKLOG }, () => {
        server.off('error', reject);
        resolve();
      });
    });
    // Such as "too many open files" for one connection: the port stays open.
    server.on('error', () => {});
    this.#servers.push(server);
  }
}

const isTcp = (address: AddressInfo | string | null): address is AddressInfo =>
  typeof address === 'object' && address !== null;

/** Throws a `TypeError`. */
export function parsePeerUrl(url: string): { readonly host: string; readonly port: number } {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed?.protocol !== 'http:' || (parsed.pathname !== '/' && parsed.pathname !== '')) {
    throw new TypeError(`Cannot use "${url}" as a peer URL: allowed is http://host:port`);
  }
  return {
    host: parsed.hostname.replace(/^\[|\]$/g, ''),
    port: parsed.port === '' ? 80 : Number(parsed.port),
  };
}
