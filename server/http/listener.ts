/**
 * One port for everything: gRPC over HTTP/2, and HTTP/1 for health, metrics and what others mount.
 *
 * Listens on `http://host:port` and on `unix:/path`.
 */
import { lstat, rm } from 'node:fs/promises';
import {
  createServer,
  type Server as HttpServer,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http';
import { type AddressInfo, createConnection, Server, type Socket } from 'node:net';
import type { Logger } from 'pino';
import type { Member } from '../rpc/member.ts';
import type { RpcServer } from '../rpc/server.ts';
import { mountHealth } from './health.ts';
import { type Metrics, mountMetrics } from './metrics.ts';
import { OriginPolicy } from './origin-policy.ts';
import { type MountPoint, Router } from './router.ts';
import { sniff } from './sniff.ts';
import { mountVersion } from './version.ts';

export type ListenerOptions = {
  /** `http://host:port` or `unix:/path`; port 0 takes a free one. */
  readonly urls: readonly string[];
  readonly member: Member;
  readonly rpc: RpcServer;
  readonly metrics: Metrics;
  readonly logger: Logger;
  /** Names this port answers for, beside those of `urls`, localhost and addresses. Flag: --host-whitelist. */
  readonly hosts?: readonly string[];
  /** Flag: --cors. @default none: only pages served from this port itself. */
  readonly origins?: readonly string[];
  /** @default 5 seconds. */
  readonly healthTimeoutMs?: number;
  /** How long a new connection may stay silent, and may take to send its headers. @default 10 seconds. */
  readonly silenceMs?: number;
};

const SILENCE_MS = 10_000;
const BACKLOG = 1_024;

export class Listener implements MountPoint {
  readonly #options: ListenerOptions;
  readonly #http: HttpServer;
  readonly #router: Router;
  readonly #servers: Server[] = [];
  readonly #sockets = new Set<Socket>();
  /** HTTP/1 connections between two requests. */
  readonly #idle = new Set<Socket>();
  #isClosing = false;
  readonly #silenceMs: number;

  private constructor(options: ListenerOptions) {
    this.#options = options;
    this.#silenceMs = options.silenceMs ?? SILENCE_MS;
    const hosts = [...(options.hosts ?? []), ...options.urls.flatMap(hostOf)];
    const policy = new OriginPolicy({ hosts, origins: options.origins ?? [] });
    this.#router = new Router(policy, options.logger);
    this.#http = createServer({ headersTimeout: this.#silenceMs }, (request, response) =>
      this.#answer(request, response),
    );
    mountHealth(this, {
      member: options.member,
      timeoutMs: options.healthTimeoutMs ?? 5_000,
      onChecked: (type, name, passed) => options.metrics.healthChecked(type, name, passed),
    });
    mountVersion(this);
    mountMetrics(this, options.metrics);
  }

  /** Throws a TypeError for a URL it does not understand, and the system's error if one is taken. */
  static async open(options: ListenerOptions): Promise<Listener> {
    const listener = new Listener(options);
    try {
      for (const url of options.urls) await listener.#listen(parse(url));
    } catch (error) {
      await listener.close(0);
      throw error;
    }
    return listener;
  }

  /** Where it listens, in the order of `urls`, with the ports that were taken. */
  get urls(): readonly string[] {
    return this.#servers.map((server, index) => urlOf(server, this.#options.urls[index] ?? ''));
  }

  mount(...at: Parameters<MountPoint['mount']>): void {
    this.#router.mount(...at);
  }

  async #listen(address: Address): Promise<void> {
    if (address.kind === 'unix') await removeDeadSocket(address.path);
    const server = new Server({ noDelay: true }, (socket) => this.#accept(socket));
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(
        address.kind === 'unix'
          ? { path: address.path, backlog: BACKLOG }
          : { host: address.host, port: address.port, backlog: BACKLOG },
        resolve,
      );
    });
    server.on('error', (error) => this.#options.logger.error({ err: error }, 'listener failed'));
    this.#servers.push(server);
  }

  #accept(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('close', () => {
      this.#sockets.delete(socket);
      this.#idle.delete(socket);
    });
    sniff(socket, this.#silenceMs, (protocol) => {
      if (protocol === 'http1') {
        this.#idle.add(socket);
        this.#http.emit('connection', socket);
      } else this.#options.rpc.accept(socket, this.#silenceMs);
    });
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request;
    this.#idle.delete(socket);
    response.on('close', () => {
      if (this.#isClosing) socket.destroy();
      else if (!socket.destroyed) this.#idle.add(socket);
    });
    this.#router.handle(request, response);
  }

  /**
   * Accepts nothing more, lets answers in flight finish, ends streams with `server stopped`; whatever
   * is open after `graceMs` is cut.
   */
  async close(graceMs: number): Promise<void> {
    const stopped = this.#servers.map(
      (server) =>
        new Promise<void>((resolve) => {
          server.close(() => resolve());
        }),
    );
    this.#isClosing = true;
    for (const socket of this.#idle) socket.destroy();
    const timer = setTimeout(() => {
      for (const socket of this.#sockets) socket.destroy();
    }, graceMs);
    const rpcStopped = this.#options.rpc.stop(graceMs);
    await Promise.all([rpcStopped, ...stopped]);
    clearTimeout(timer);
  }
}

type Address =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string };

function parse(url: string): Address {
  if (url.startsWith('unix:')) {
    const path = url.slice('unix:'.length).replace(/^\/\//, '');
    if (path === '') throw new TypeError(`Cannot listen on "${url}": the path is empty`);
    return { kind: 'unix', path };
  }
  if (!URL.canParse(url) || new URL(url).protocol !== 'http:') {
    throw new TypeError(`Cannot listen on "${url}": allowed are http://host:port and unix:/path`);
  }
  const { hostname, port } = new URL(url);
  return {
    kind: 'tcp',
    host: hostname.replace(/^\[|\]$/g, ''),
    port: port === '' ? 80 : Number(port),
  };
}

const hostOf = (url: string): string[] => {
  const address = parse(url);
  return address.kind === 'tcp' ? [address.host] : [];
};

function urlOf(server: Server, configured: string): string {
  const address: AddressInfo | string | null = server.address();
  if (address === null || typeof address === 'string') return configured;
  const url = new URL(configured);
  url.port = String(address.port);
  return url.href.replace(/\/$/, '');
}

/** A socket file that nobody listens on is what a killed process left behind. */
async function removeDeadSocket(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new TypeError(`Cannot listen on "unix:${path}": there is a file that is not a socket`);
  }
  const isAlive = await new Promise<boolean>((resolve) => {
    const probe = createConnection(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', (error: NodeJS.ErrnoException) => resolve(error.code !== 'ECONNREFUSED'));
  });
  if (!isAlive) await rm(path, { force: true });
}
