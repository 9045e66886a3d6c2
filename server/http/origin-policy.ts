/**
 * Keeps web pages of other sites away from this port.
 *
 * A browser sends `Origin` with every request that could do harm, and `Host` says which name the
 * page resolved to this address (DNS rebinding). Programs send no `Origin`, and the names they use are
 * configured or addresses, so etcd clients notice nothing. This is stricter than etcd, which lets any
 * page in; an allowed origin of `*` restores etcd's behaviour.
 */
import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';

export type OriginPolicyOptions = {
  /** Names under which this port may be asked for, beside localhost and any address. `*`: any. */
  readonly hosts: readonly string[];
  /** Origins of pages that may use this port, such as `https://console.example`. `*`: any. */
  readonly origins: readonly string[];
};

export type Verdict =
  | { readonly allowed: true; readonly origin: string | undefined }
  | { readonly allowed: false; readonly status: 403 | 421; readonly reason: string };

const ANY = '*';

export class OriginPolicy {
  readonly #hosts: ReadonlySet<string>;
  readonly #origins: ReadonlySet<string>;

  constructor(options: OriginPolicyOptions) {
    this.#hosts = new Set(options.hosts.map((host) => host.toLowerCase()));
    this.#origins = new Set(options.origins.map((origin) => origin.toLowerCase()));
  }

  judge(request: IncomingMessage): Verdict {
    const host = request.headers.host ?? '';
    if (!this.#isKnownHost(hostName(host))) {
      return {
        allowed: false,
        status: 421,
        reason: `this server does not answer for host "${printable(host)}": add it with --host-whitelist`,
      };
    }
    const { origin } = request.headers;
    if (this.#origins.has(ANY)) return { allowed: true, origin };
    if (request.headers['sec-fetch-site'] === 'cross-site' && origin === undefined) {
      return { allowed: false, status: 403, reason: 'cross-site requests are refused' };
    }
    if (origin === undefined) return { allowed: true, origin: undefined };
    if (this.#origins.has(origin.toLowerCase())) return { allowed: true, origin };
    if (isSameOrigin(origin, host)) return { allowed: true, origin: undefined };
    return {
      allowed: false,
      status: 403,
      reason: `pages of origin "${printable(origin)}" may not use this server: allow it with --cors`,
    };
  }

  #isKnownHost(name: string): boolean {
    return (
      this.#hosts.has(ANY) ||
      name === 'localhost' ||
      name.endsWith('.localhost') ||
      isIP(name) !== 0 ||
      this.#hosts.has(name)
    );
  }
}

/** The name or address in a Host header, without port and brackets. */
function hostName(host: string): string {
  const name = host.startsWith('[') ? host.slice(1).split(']')[0] : host.split(':')[0];
  return (name ?? '').toLowerCase();
}

function isSameOrigin(origin: string, host: string): boolean {
  return origin === `http://${host}` || origin === `https://${host}`;
}

/** Header values end up in answers and logs. */
const printable = (value: string): string => value.slice(0, 200).replace(/[^\x20-\x7e]/g, '?');
