/** An event as watchers see it: shared by every watcher that gets it, never copied. */
import type { Event, KeyValue, Revision } from '../mvcc/types.ts';

/** A guess at what an event costs beside its key and value, so that many tiny events count too. */
const EVENT_OVERHEAD_BYTES = 64;

const bytesOf = ({ kv }: Event): number => EVENT_OVERHEAD_BYTES + kv.key.length + kv.value.length;

export class WatchEvent {
  readonly event: Event;
  readonly bytes: number;
  #previous: KeyValue | undefined;
  #previousIsKnown: boolean;
  /** Room for the transport to keep the encoded form, so that it is made once for all watchers. */
  encoded: Uint8Array | undefined = undefined;
  encodedWithPrevious: Uint8Array | undefined = undefined;

  constructor(event: Event) {
    this.event = event;
    this.bytes = bytesOf(event);
    this.#previous = undefined;
    // A key's first version has nothing before it: no lookup.
    this.#previousIsKnown = event.kind === 'put' && event.kv.version === 1;
  }

  /** Looks the previous value up unless it is known. Must be called before compaction removes it. */
  resolvePrevious(lookUp: (kv: KeyValue) => KeyValue | undefined): void {
    if (this.#previousIsKnown) return;
    this.#previous = lookUp(this.event.kv);
    this.#previousIsKnown = true;
  }

  /** The value before the event; undefined for a creation, or when it was compacted or not resolved. */
  get previous(): KeyValue | undefined {
    return this.#previous;
  }

  get bytesWithPrevious(): number {
    const previous = this.#previous;
    return previous === undefined
      ? this.bytes
      : this.bytes + EVENT_OVERHEAD_BYTES + previous.key.length + previous.value.length;
  }
}

/** Everything that happened at one revision, in order. */
export type RevisionEvents = { readonly revision: Revision; readonly events: readonly Event[] };

/**
 * The same as watchers see it. What they share is made when the first of them gets it: most revisions
 * pass unseen.
 */
export class SharedRevision {
  readonly revision: Revision;
  readonly bytes: number;
  readonly #plain: readonly Event[];
  #events: readonly WatchEvent[] | undefined;

  constructor({ revision, events }: RevisionEvents) {
    this.revision = revision;
    this.#plain = events;
    this.#events = undefined;
    let bytes = 0;
    for (const event of events) bytes += bytesOf(event);
    this.bytes = bytes;
  }

  get events(): readonly WatchEvent[] {
    this.#events ??= this.#plain.map((event) => new WatchEvent(event));
    return this.#events;
  }
}
