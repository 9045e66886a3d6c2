/** How a member introduces itself: the headers of every call, and of the answer to it. */
import type { Hello } from './transport.ts';

const names = {
  protocolVersion: 'conclave-protocol',
  clusterId: 'conclave-cluster',
  from: 'conclave-from',
  to: 'conclave-to',
  incarnation: 'conclave-incarnation',
  session: 'conclave-session',
  configurationIndex: 'conclave-configuration',
  urls: 'conclave-urls',
} as const satisfies Record<keyof Hello, string>;

const MAX_URLS = 16;
const MAX_URLS_LENGTH = 4_096;

/** Of one length, so that a header that was cut short does not pass for another id. */
const hexId = (id: bigint): string => id.toString(16).padStart(16, '0');

export function helloHeaders(hello: Hello): Record<string, string> {
  return {
    [names.protocolVersion]: String(hello.protocolVersion),
    [names.clusterId]: hexId(hello.clusterId),
    [names.from]: hexId(hello.from),
    [names.to]: hexId(hello.to),
    [names.incarnation]: hexId(hello.incarnation),
    [names.session]: hexId(hello.session),
    [names.configurationIndex]: String(hello.configurationIndex),
    [names.urls]: hello.urls.join(','),
  };
}

/** Throws a `HelloError`. */
export function parseHello(headers: Readonly<Record<string, unknown>>): Hello {
  return {
    protocolVersion: decimal(headers, names.protocolVersion),
    clusterId: hex(headers, names.clusterId),
    from: hex(headers, names.from),
    to: hex(headers, names.to),
    incarnation: hex(headers, names.incarnation),
    session: hex(headers, names.session),
    configurationIndex: decimal(headers, names.configurationIndex),
    urls: urls(headers, names.urls),
  };
}

/** The other side is no member of any conclave cluster, or is broken. */
export class HelloError extends Error {
  override name = 'HelloError';
  readonly code = 'malformed-hello';

  constructor(header: string, given: unknown, allowed: string) {
    const what = given === undefined ? 'nothing' : JSON.stringify(String(given).slice(0, 100));
    super(`Cannot accept the header ${header}: it must be ${allowed}, and is ${what}`);
  }
}

function decimal(headers: Readonly<Record<string, unknown>>, name: string): number {
  const given = headers[name];
  if (typeof given === 'string' && /^\d{1,15}$/.test(given)) return Number(given);
  throw new HelloError(name, given, 'a decimal number');
}

function hex(headers: Readonly<Record<string, unknown>>, name: string): bigint {
  const given = headers[name];
  if (typeof given === 'string' && /^[0-9a-f]{16}$/.test(given)) return BigInt(`0x${given}`);
  throw new HelloError(name, given, '16 hexadecimal digits');
}

function urls(headers: Readonly<Record<string, unknown>>, name: string): string[] {
  const given = headers[name];
  if (typeof given === 'string' && given.length <= MAX_URLS_LENGTH) {
    const list = given === '' ? [] : given.split(',');
    if (list.length <= MAX_URLS && list.every((url) => URL.canParse(url))) return list;
  }
  throw new HelloError(name, given, `up to ${MAX_URLS} URLs`);
}
