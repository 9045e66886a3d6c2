/**
 * PURE: a copy of everything under one prefix, and what is known of how exact it is. A listing at one
 * revision, then every later revision whole and in order, keep it exact. A later listing, made for
 * comparison, shows what the revisions did not bring.
 */
import type { KeyValue, ListResult } from '../../sdk/kv.ts';
import type { WatchEvent } from '../../sdk/watch.ts';

/** What one key became, and what it was. */
export type CopyChange = {
  readonly type: 'put' | 'delete';
  /** For a deletion: the key, and the revision of the deletion as `modRevision`; nothing else. */
  readonly kv: KeyValue;
  readonly previous: KeyValue | undefined;
};

/** Keys that a listing shows otherwise than the copy. */
export type Differences = {
  /** Of the listing. */
  readonly revision: bigint;
  /** By key: the revision of its last write, 0n for none. */
  readonly listed: ReadonlyMap<string, bigint>;
};

/** A key as the copy files it, one character a byte: also what is no UTF-8 stays distinct. */
const keyId = (key: Uint8Array): string => Buffer.from(key).toString('latin1');

const textId = (key: string): string => keyId(Buffer.from(key));

const sizeOf = (kv: KeyValue): number => kv.keyBytes.length + kv.value.length;

/** What there is under a prefix, by key. */
export type PrefixEntries = {
  readonly size: number;
  get(key: string): KeyValue | undefined;
  has(key: string): boolean;
  values(): Iterable<KeyValue>;
};

export class PrefixCopy implements PrefixEntries {
  readonly #entries = new Map<string, KeyValue>();
  #revision = 0n;
  #bytes = 0;
  /** The revision of the last deletion of a key, while a comparison is under way. */
  #deleted = new Map<string, bigint>();
  #compares = false;

  /** The copy is exact as of this revision. */
  get revision(): bigint {
    return this.#revision;
  }

  /** Of keys and values, together. */
  get bytes(): number {
    return this.#bytes;
  }

  get size(): number {
    return this.#entries.size;
  }

  get(key: string): KeyValue | undefined {
    return this.#entries.get(textId(key));
  }

  has(key: string): boolean {
    return this.#entries.has(textId(key));
  }

  values(): Iterable<KeyValue> {
    return this.#entries.values();
  }

  /** Forgets all, for what there is at `revision`. */
  replace(kvs: Iterable<KeyValue>, revision: bigint): void {
    this.#entries.clear();
    this.#bytes = 0;
    this.#compares = false;
    this.#revision = revision;
    for (const kv of kvs) this.#put(keyId(kv.keyBytes), kv);
  }

  /** The next revision, whole. */
  apply(revision: bigint, events: readonly WatchEvent[]): readonly CopyChange[] {
    this.#revision = revision;
    return events.map(({ type, kv }) => {
      const id = keyId(kv.keyBytes);
      const previous = this.#entries.get(id);
      if (type === 'put') this.#put(id, kv);
      else this.#delete(id, kv.modRevision);
      return { type, kv, previous };
    });
  }

  /**
   * Whether the listing tells otherwise of a write that the copy has: then the store has gone through
   * other revisions than those the copy is of.
   *
   * @param withValues whether the listing has them
   */
  contradicts({ kvs }: ListResult, withValues: boolean): boolean {
    return kvs.some((kv) => {
      const known = this.#entries.get(keyId(kv.keyBytes));
      if (known?.modRevision !== kv.modRevision) return false;
      if (known.createRevision !== kv.createRevision || known.version !== kv.version) return true;
      if (known.lease !== kv.lease) return true;
      return withValues && Buffer.compare(known.value, kv.value) !== 0;
    });
  }

  /** Call it before a listing for comparison is asked for. */
  beginComparison(): void {
    this.#compares = true;
    this.#deleted = new Map();
  }

  /** What the listing shows otherwise, as far as the copy is not ahead of it. */
  compare({ kvs, revision }: ListResult): Differences {
    const listed = new Map<string, bigint>();
    for (const id of this.#entries.keys()) listed.set(id, 0n);
    for (const kv of kvs) listed.set(keyId(kv.keyBytes), kv.modRevision);
    for (const [id, modRevision] of listed) {
      if (!this.#differs(id, modRevision, revision)) listed.delete(id);
    }
    return { revision, listed };
  }

  /** Whether some of it still is so: call it when the watch has had time to bring it. */
  hasMissed({ revision, listed }: Differences): boolean {
    return [...listed].some(([id, modRevision]) => this.#differs(id, modRevision, revision));
  }

  /** Forgets what only comparing needs. */
  endComparison(): void {
    this.#compares = false;
    this.#deleted = new Map();
  }

  #differs(id: string, listed: bigint, revision: bigint): boolean {
    // Taken anew since the listing was asked for: that says nothing about it.
    if (!this.#compares) return false;
    const written = this.#entries.get(id)?.modRevision;
    if (listed === 0n) return written !== undefined && written <= revision;
    const known = written ?? this.#deleted.get(id) ?? 0n;
    return known !== listed && known <= revision;
  }

  #put(id: string, kv: KeyValue): void {
    const before = this.#entries.get(id);
    if (before) this.#bytes -= sizeOf(before);
    this.#entries.set(id, kv);
    this.#bytes += sizeOf(kv);
  }

  #delete(id: string, revision: bigint): void {
    const before = this.#entries.get(id);
    if (before) this.#bytes -= sizeOf(before);
    this.#entries.delete(id);
    if (this.#compares) this.#deleted.set(id, revision);
  }
}
