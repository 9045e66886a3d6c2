/** From the text of a flag, a variable or a file to a checked value. All throw `ConfigError`. */
import { isIP } from 'node:net';
import { type Origin, refuse } from './config-error.ts';

export type Reader<T> = (text: string, origin: Origin) => T;

/** A whole number in plain decimal digits: no sign but minus, no exponent, no hex, no spaces. */
export const integer =
  (min: number, max: number): Reader<number> =>
  (text, origin) => {
    const value = /^-?\d+$/.test(text) ? Number(text) : Number.NaN;
    if (!Number.isSafeInteger(value) || value < min || value > max) {
      throw refuse(origin, text, `a whole number from ${min} to ${max}`);
    }
    return value;
  };

const unitNanoseconds: Readonly<Record<string, number>> = {
  ns: 1,
  us: 1e3,
  µs: 1e3,
  ms: 1e6,
  s: 1e9,
  m: 60e9,
  h: 3600e9,
};

/** A duration as Go writes it ('300ms', '1h30m'), or undefined. */
export function goDurationMs(text: string): number | undefined {
  if (!/^(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+$/.test(text)) return undefined;
  let nanoseconds = 0;
  for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g)) {
    nanoseconds += Number(amount) * (unitNanoseconds[unit ?? ''] ?? Number.NaN);
  }
  return nanoseconds / 1e6;
}

const LONGEST_DURATION_MS = 100 * 365 * 24 * 3_600_000;

/** In milliseconds. `allowZero`: zero turns something off. */
export const duration =
  (options: { readonly allowZero: boolean }): Reader<number> =>
  (text, origin) => {
    const value = text === '0' ? 0 : goDurationMs(text);
    const low = options.allowZero ? value === 0 : false;
    if (value === undefined || (value < 1 && !low) || value > LONGEST_DURATION_MS) {
      const zero = options.allowZero ? ', or 0' : '';
      throw refuse(origin, text, `a duration such as '500ms', '5s', '10m' or '1h'${zero}`);
    }
    return Math.round(value);
  };

export const choice =
  <const Choice extends string>(...choices: readonly Choice[]): Reader<Choice> =>
  (text, origin) => {
    const found = choices.find((candidate) => candidate === text);
    if (found === undefined) throw refuse(origin, text, `one of ${choices.join(', ')}`);
    return found;
  };

export const text =
  (options: { readonly empty: boolean }): Reader<string> =>
  (value, origin) => {
    if (value === '' && !options.empty) throw refuse(origin, value, 'a text that is not empty');
    return value;
  };

const isTruth = new Map([
  ...['1', 't', 'T', 'TRUE', 'true', 'True'].map((word) => [word, true] as const),
  ...['0', 'f', 'F', 'FALSE', 'false', 'False'].map((word) => [word, false] as const),
]);

/** Undefined when the word means neither. */
export const booleanOf = (word: string): boolean | undefined => isTruth.get(word);

export const boolean: Reader<boolean> = (word, origin) => {
  const value = booleanOf(word);
  if (value === undefined) throw refuse(origin, word, 'true or false');
  return value;
};

/** The parts between commas, trimmed; an empty text has none. */
export const list: Reader<readonly string[]> = (value) =>
  value
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');

/** A place to listen on, or the name under which others find it. */
export type Endpoint =
  | {
      readonly kind: 'tcp';
      /** Without brackets; '' listens on every address. */
      readonly host: string;
      /** 0 lets the system choose. */
      readonly port: number;
      readonly url: string;
    }
  | { readonly kind: 'unix'; readonly path: string; readonly url: string };

const urlForm = "a URL such as 'http://127.0.0.1:2379' or 'unix:///run/conclave.sock'";

function endpoint(value: string, origin: Origin): Endpoint {
  if (value.startsWith('unix:')) {
    const path = value.slice('unix:'.length).replace(/^\/\//, '');
    if (!path.startsWith('/')) throw refuse(origin, value, `an absolute path after 'unix:'`);
    return { kind: 'unix', path, url: value };
  }
  if (/^(https|unixs):/.test(value)) {
    throw refuse(origin, value, "'http' or 'unix': TLS is not supported yet");
  }
  const match = /^http:\/\/(\[[^\]]*\]|[^:/?#@]*):(\d+)\/?$/.exec(value);
  const port = Number(match?.[2]);
  if (match === null || port > 65_535) throw refuse(origin, value, `${urlForm}, with a port`);
  const written = match[1] ?? '';
  const host = written.startsWith('[') ? written.slice(1, -1) : written;
  if (written.startsWith('[') && isIP(host) !== 6) {
    throw refuse(origin, value, 'a URL with an IPv6 address between the brackets');
  }
  return { kind: 'tcp', host, port, url: `http://${written}:${port}` };
}

export const endpoints =
  (options: { readonly empty: boolean }): Reader<readonly Endpoint[]> =>
  (value, origin) => {
    const parts = list(value, origin);
    if (parts.length === 0 && !options.empty) throw refuse(origin, value, urlForm);
    return parts.map((part) => endpoint(part, origin));
  };

/** Addresses to bind: a name other than localhost may resolve to any machine's address. */
export const listenEndpoints =
  (options: { readonly empty: boolean }): Reader<readonly Endpoint[]> =>
  (value, origin) => {
    const found = endpoints(options)(value, origin);
    for (const one of found) {
      const bindable =
        one.kind === 'unix' || one.host === '' || one.host === 'localhost' || isIP(one.host) !== 0;
      if (!bindable) throw refuse(origin, one.url, 'a URL with an IP address or localhost to bind');
    }
    return found;
  };

/** URLs that others connect to: they need a host and, unless the system chooses it, a port. */
export const advertisedEndpoints: Reader<readonly Endpoint[]> = (value, origin) => {
  const found = endpoints({ empty: false })(value, origin);
  for (const one of found) {
    if (one.kind === 'tcp' && one.host === '') {
      throw refuse(origin, one.url, 'a URL with a host that others can reach');
    }
  }
  return found;
};

export type InitialMember = { readonly name: string; readonly peerUrls: readonly Endpoint[] };

/** 'a=http://…,b=http://…'; a name given twice has two URLs. */
export const initialCluster: Reader<readonly InitialMember[]> = (value, origin) => {
  const members = new Map<string, Endpoint[]>();
  for (const part of list(value, origin)) {
    const at = part.indexOf('=');
    if (at < 1)
      throw refuse(origin, part, "members as 'name=http://host:2380', with commas between");
    const name = part.slice(0, at);
    const urls = members.get(name) ?? [];
    urls.push(...advertisedEndpoints(part.slice(at + 1), origin));
    members.set(name, urls);
  }
  if (members.size === 0) throw refuse(origin, value, "members as 'name=http://host:2380'");
  return [...members].map(([name, peerUrls]) => ({ name, peerUrls }));
};
