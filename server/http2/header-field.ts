/** One header field, checked once: fields of HPACK's tables are referred to again and again. */

/** What RFC 7541 section 4.1 counts for a field beside its name and value. */
const OVERHEAD_BYTES = 32;

export class HeaderField {
  readonly name: string;
  readonly value: string;
  /** As HPACK and SETTINGS_MAX_HEADER_LIST_SIZE count it. */
  readonly bytes: number;
  /** Whether HTTP/2 allows such a field in a request (RFC 9113 section 8.2). */
  readonly isValid: boolean;

  constructor(name: string, value: string) {
    this.name = name;
    this.value = value;
    this.bytes = name.length + value.length + OVERHEAD_BYTES;
    this.isValid = isValidName(name) && isValidValue(value) && !isOfConnection(name, value);
  }
}

/** A token in lower case, or such a token behind the colon of a pseudo-header. */
const NAME = /^:?[!#$%&'*+\-.^_`|~0-9a-z]+$/;

const isValidName = (name: string): boolean => NAME.test(name);

function isValidValue(value: string): boolean {
  for (let at = 0; at < value.length; at++) {
    const code = value.charCodeAt(at);
    if (code === 0 || code === 10 || code === 13) return false;
  }
  return !isSpace(value.charCodeAt(0)) && !isSpace(value.charCodeAt(value.length - 1));
}

const isSpace = (code: number): boolean => code === 32 || code === 9;

/** Fields about an HTTP/1 connection mean nothing here (RFC 9113 section 8.2.2). */
function isOfConnection(name: string, value: string): boolean {
  switch (name) {
    case 'connection':
    case 'keep-alive':
    case 'proxy-connection':
    case 'transfer-encoding':
    case 'upgrade':
      return true;
    case 'te':
      return value !== 'trailers';
    default:
      return false;
  }
}
