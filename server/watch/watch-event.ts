/** An event as watchers see it: shared by every watcher that gets it, never copied. */
import type { Event, KeyValue, Revision } from '../mvcc/types.ts';

/** A guess at what an event costs beside its key and value, so that many tiny events count too. */
const EVENT_OVERHEAD_BYTES = 64;

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
    this.bytes = EVENT_OVERHEAD_BYTES + event.kv.key.length + event.kv.value.length;
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

/** The same, wrapped once for sharing. */
export type SharedRevision = {
  readonly revision: Revision;
  readonly events: readonly WatchEvent[];
  readonly bytes: number;
};

export function share({ revision, events }: RevisionEvents): SharedRevision {
  const shared = events.map((event) => new WatchEvent(event));
  return { revision, events: shared, bytes: shared.reduce((sum, event) => sum + event.bytes, 0) };
}
