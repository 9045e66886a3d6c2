/** The static and the dynamic table of HPACK (RFC 7541 section 2.3), by one index. */
import { HeaderField } from './header-field.ts';

/** RFC 7541 appendix A, from index 1 on. */
const staticFields: readonly HeaderField[] = [
  [':authority'],
  [':method', 'GET', 'POST'],
  [':path', '/', '/index.html'],
  [':scheme', 'http', 'https'],
  [':status', '200', '204', '206', '304', '400', '404', '500'],
  ['accept-charset'],
  ['accept-encoding', 'gzip, deflate'],
  ...['accept-language', 'accept-ranges', 'accept', 'access-control-allow-origin', 'age', 'allow'],
  ...['authorization', 'cache-control', 'content-disposition', 'content-encoding'],
  ...['content-language', 'content-length', 'content-location', 'content-range', 'content-type'],
  ...['cookie', 'date', 'etag', 'expect', 'expires', 'from', 'host', 'if-match'],
  ...['if-modified-since', 'if-none-match', 'if-range', 'if-unmodified-since', 'last-modified'],
  ...['link', 'location', 'max-forwards', 'proxy-authenticate', 'proxy-authorization', 'range'],
  ...['referer', 'refresh', 'retry-after', 'server', 'set-cookie', 'strict-transport-security'],
  ...['transfer-encoding', 'user-agent', 'vary', 'via', 'www-authenticate'],
].flatMap((row) => {
  const [name = '', ...values] = typeof row === 'string' ? [row] : row;
  return (values.length === 0 ? [''] : values).map((value) => new HeaderField(name, value));
});

export const STATIC_COUNT = staticFields.length;

/** The newest field has the lowest index; the oldest ones go when the space is used up. */
export class HpackTable {
  #limitBytes: number;
  #bytes = 0;
  /** A ring; its length is a power of two. */
  #fields: (HeaderField | undefined)[] = new Array(16);
  /** Where the next field goes. */
  #next = 0;
  #count = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get count(): number {
    return this.#count;
  }

  /** Undefined when nothing has this index. */
  get(index: number): HeaderField | undefined {
    if (index <= STATIC_COUNT) return staticFields[index - 1];
    const age = index - STATIC_COUNT;
    if (age > this.#count) return undefined;
    return this.#fields[(this.#next - age) & (this.#fields.length - 1)];
  }

  /** One that is larger than the table leaves it empty (RFC 7541 section 4.4). */
  add(field: HeaderField): void {
    this.#evict(this.#limitBytes - field.bytes);
    if (field.bytes > this.#limitBytes) return;
    if (this.#count === this.#fields.length) this.#grow();
    this.#fields[this.#next] = field;
    this.#next = (this.#next + 1) & (this.#fields.length - 1);
    this.#count += 1;
    this.#bytes += field.bytes;
  }

  resize(limitBytes: number): void {
    this.#limitBytes = limitBytes;
    this.#evict(limitBytes);
  }

  #evict(room: number): void {
    while (this.#count > 0 && this.#bytes > room) {
      const oldest = (this.#next - this.#count) & (this.#fields.length - 1);
      this.#bytes -= this.#fields[oldest]?.bytes ?? 0;
      this.#fields[oldest] = undefined;
      this.#count -= 1;
    }
  }

  #grow(): void {
    const { length } = this.#fields;
    const ordered = Array.from(
      { length },
      (_, index) => this.#fields[(this.#next + index) & (length - 1)],
    );
    this.#fields = ordered.concat(new Array(length));
    this.#next = length;
  }
}
