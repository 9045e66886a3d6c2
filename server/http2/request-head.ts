/** The header fields with which a request begins, or ends: what is known of them, and checked. */
import type { HeaderField } from './header-field.ts';
import type { FieldSink } from './hpack-decoder.ts';
import { CallMetadata } from './metadata.ts';

/** SETTINGS_MAX_HEADER_LIST_SIZE. */
export const MAX_HEADER_LIST_BYTES = 64 * 1024;

const COLON = 58;

/** One for a connection, which is used again for every block. */
export class RequestHead implements FieldSink {
  path: string | undefined;
  method: string | undefined;
  scheme: string | undefined;
  contentType: string | undefined;
  timeout: string | undefined;
  encoding: string | undefined;
  /** RFC 9113 section 8.1.1. */
  isMalformed = false;
  isTooLarge = false;
  #bytes = 0;
  #hasFields = false;
  #hasAuthority = false;
  #pairs: string[] | undefined;

  clear(): void {
    this.path = undefined;
    this.method = undefined;
    this.scheme = undefined;
    this.contentType = undefined;
    this.timeout = undefined;
    this.encoding = undefined;
    this.isMalformed = false;
    this.isTooLarge = false;
    this.#bytes = 0;
    this.#hasFields = false;
    this.#hasAuthority = false;
    this.#pairs = undefined;
  }

  get metadata(): CallMetadata {
    return this.#pairs === undefined ? CallMetadata.EMPTY : new CallMetadata(this.#pairs);
  }

  /** Whether there are all the pseudo-headers that a request has to have. */
  get isComplete(): boolean {
    return (
      this.method !== undefined &&
      this.scheme !== undefined &&
      this.path !== undefined &&
      this.path !== ''
    );
  }

  get hasPseudoHeaders(): boolean {
    return (
      this.#hasAuthority ||
      this.method !== undefined ||
      this.scheme !== undefined ||
      this.path !== undefined
    );
  }

  field(field: HeaderField): void {
    this.#bytes += field.bytes;
    if (this.#bytes > MAX_HEADER_LIST_BYTES) {
      this.isTooLarge = true;
      return;
    }
    if (!field.isValid) this.isMalformed = true;
    const { name, value } = field;
    if (name.charCodeAt(0) === COLON) {
      this.#pseudoHeader(name, value);
      return;
    }
    this.#hasFields = true;
    switch (name) {
      case 'content-type':
        this.contentType = value;
        break;
      case 'grpc-timeout':
        this.timeout = value;
        break;
      case 'grpc-encoding':
        this.encoding = value;
        break;
      case 'te':
      case 'user-agent':
      case 'accept-encoding':
      case 'grpc-accept-encoding':
        break;
      default:
        this.#pairs ??= [];
        this.#pairs.push(name, value);
    }
  }

  /** Each at most once, before all other fields. Nobody cares what the authority is. */
  #pseudoHeader(name: string, value: string): void {
    let isKnown = !this.#hasFields;
    switch (name) {
      case ':path':
        isKnown &&= this.path === undefined;
        this.path = value;
        break;
      case ':method':
        isKnown &&= this.method === undefined;
        this.method = value;
        break;
      case ':scheme':
        isKnown &&= this.scheme === undefined;
        this.scheme = value;
        break;
      case ':authority':
        isKnown &&= !this.#hasAuthority;
        this.#hasAuthority = true;
        break;
      default:
        isKnown = false;
    }
    if (!isKnown) this.isMalformed = true;
  }
}
