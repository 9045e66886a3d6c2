/** HTTP/1 requests by path. Others mount their own handlers beside the built-in ones. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Logger } from 'pino';
import type { OriginPolicy } from './origin-policy.ts';

export type HttpHandler = (
  request: IncomingMessage,
  response: ServerResponse,
  url: URL,
) => void | Promise<void>;

/** Mounts `handler` at a path; one that ends with `/` takes everything below it. */
export interface MountPoint {
  mount(path: string, handler: HttpHandler): void;
}

export class Router implements MountPoint {
  readonly #policy: OriginPolicy;
  readonly #logger: Logger;
  readonly #exact = new Map<string, HttpHandler>();
  /** Longest first: the most specific one wins. */
  #prefixes: { readonly path: string; readonly handler: HttpHandler }[] = [];

  constructor(policy: OriginPolicy, logger: Logger) {
    this.#policy = policy;
    this.#logger = logger;
  }

  /** Throws a TypeError when the path is taken or does not begin with `/`. */
  mount(path: string, handler: HttpHandler): void {
    if (!path.startsWith('/')) {
      throw new TypeError(`Cannot mount at "${path}": a path must begin with "/"`);
    }
    if (this.#exact.has(path) || this.#prefixes.some((prefix) => prefix.path === path)) {
      throw new TypeError(`Cannot mount at "${path}": another handler is already there`);
    }
    if (!path.endsWith('/')) {
      this.#exact.set(path, handler);
      return;
    }
    this.#prefixes.push({ path, handler });
    this.#prefixes.sort((a, b) => b.path.length - a.path.length);
  }

  /** Answers whatever comes in. */
  handle(request: IncomingMessage, response: ServerResponse): void {
    this.#answer(request, response).catch((error: unknown) => {
      this.#logger.error({ err: error, path: request.url }, 'http request failed unexpectedly');
      if (response.headersSent) response.destroy();
      else sendText(response, 500, 'internal error: the log of the member has the cause\n');
    });
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.setHeader('X-Content-Type-Options', 'nosniff');
    const verdict = this.#policy.judge(request);
    if (!verdict.allowed) {
      sendText(response, verdict.status, `${verdict.reason}\n`);
      return;
    }
    if (verdict.origin !== undefined) {
      allowOrigin(response, verdict.origin);
      if (request.method === 'OPTIONS') {
        response.writeHead(200).end();
        return;
      }
    }
    const url = parseUrl(request.url ?? '/');
    if (url === undefined) {
      sendText(response, 400, 'the request path is not a valid URL\n');
      return;
    }
    const handler =
      this.#exact.get(url.pathname) ??
      this.#prefixes.find((prefix) => url.pathname.startsWith(prefix.path))?.handler;
    if (handler === undefined) sendText(response, 404, '404 page not found\n');
    else await handler(request, response, url);
  }
}

function parseUrl(path: string): URL | undefined {
  try {
    return new URL(path, 'http://localhost');
  } catch {
    return undefined;
  }
}

function allowOrigin(response: ServerResponse, origin: string): void {
  response.setHeader('Access-Control-Allow-Origin', origin);
  response.setHeader('Vary', 'Origin');
  response.setHeader('Access-Control-Allow-Methods', 'POST, GET, OPTIONS, PUT, DELETE');
  response.setHeader(
    'Access-Control-Allow-Headers',
    'accept, content-type, authorization, x-conclave-console',
  );
}

export function sendText(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'Content-Type': 'text/plain; charset=utf-8' }).end(text);
}

export function sendJson(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(value));
}

/** Answers 405 and returns false unless the request only reads. */
export function isRead(request: IncomingMessage, response: ServerResponse): boolean {
  if (request.method === 'GET' || request.method === 'HEAD') return true;
  response.setHeader('Allow', 'GET, HEAD');
  sendText(response, 405, 'Method Not Allowed\n');
  return false;
}
