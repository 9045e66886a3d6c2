/** Addresses of members: reading them, and going round them. */
import { invalidArgument } from './errors.ts';

export type Endpoint = {
  /** As the caller wrote it. */
  readonly name: string;
  /** As gRPC resolves it: 'host:port' or 'unix:/path'. */
  readonly target: string;
  readonly tls: boolean;
};

const allowed = "'host:port', 'http://host:port', 'https://host:port' or 'unix:/path'";
const defaultPort = 2379;

/** @throws ConclaveError INVALID_ARGUMENT naming the endpoint that is not understood */
export const parseEndpoints = (input: string | readonly string[]): readonly Endpoint[] => {
  const names = typeof input === 'string' ? input.split(',') : input;
  if (!Array.isArray(names)) throw invalidArgument('endpoints', input, `a list of ${allowed}`);
  const endpoints = names.map((name) => parseEndpoint(String(name).trim()));
  if (endpoints.length === 0) throw invalidArgument('endpoints', input, 'at least one endpoint');
  return endpoints;
};

const parseEndpoint = (name: string): Endpoint => {
  const socket = /^unix:(?:\/\/)?(\/.+)$/.exec(name)?.[1];
  if (socket !== undefined) return { name, target: `unix:${socket}`, tls: false };
  const [, scheme = 'http', rest = ''] = /^(?:([a-z]+):\/\/)?([^/?#]+)\/?$/.exec(name) ?? [];
  const [, host, port] = /^(\[[0-9a-fA-F:.]+\]|[^:[\]\s]+)(?::(\d{1,5}))?$/.exec(rest) ?? [];
  const known = scheme === 'http' || scheme === 'https';
  if (!known || host === undefined || Number(port ?? 1) > 65_535) {
    throw invalidArgument('endpoints', name, allowed);
  }
  return { name, target: `${host}:${port ?? defaultPort}`, tls: scheme === 'https' };
};

/** Takes endpoints in turn; starts anywhere, so that many clients spread over the members. */
export class Rotation {
  readonly endpoints: readonly Endpoint[];
  #next: number;

  constructor(endpoints: readonly Endpoint[], random: () => number) {
    this.endpoints = endpoints;
    this.#next = Math.floor(random() * endpoints.length);
  }

  /** Each endpoint once, the one after the last used first. */
  round(): readonly Endpoint[] {
    return [...this.endpoints.slice(this.#next), ...this.endpoints.slice(0, this.#next)];
  }

  used(endpoint: Endpoint): void {
    this.#next = (this.endpoints.indexOf(endpoint) + 1) % this.endpoints.length;
  }

  /** @throws ConclaveError INVALID_ARGUMENT when no endpoint has this name */
  named(name: string): Endpoint {
    const endpoint = this.endpoints.find((candidate) => candidate.name === name);
    if (endpoint !== undefined) return endpoint;
    const names = this.endpoints.map((candidate) => candidate.name).join(', ');
    throw invalidArgument('endpoint', name, `one of ${names}`);
  }
}
