/**
 * State and log without a disk, for tests and the simulator. They keep the distinction that matters:
 * what was written and what would survive a crash.
 */
import { assert } from '../assert.ts';
import type { Bytes } from '../mvcc/types.ts';
import type { Counted, Log, LogPosition, Recovered, State, Write } from '../ports.ts';
import type { Entry, HardState } from '../raft/message.ts';
import { bytesOf, keyOf, pairsBetween, SortedMap } from './byte-order.ts';
import { LogReleasedError } from './errors.ts';
import { decodeState, encodeState } from './memory-format.ts';
import type { ReceivedSnapshot } from './transfer.ts';

/**
 * Decides when a write becomes durable: calls `complete` once, whenever it likes. The default does so
 * at the end of the current turn; the simulator passes one that runs on its virtual clock.
 */
export type DurabilitySchedule = (complete: () => void) => void;

const endOfTurn: DurabilitySchedule = (complete) => queueMicrotask(complete);

type Version = {
  readonly tree: SortedMap<Bytes>;
  readonly applied: LogPosition;
  /** The number of the last apply in it. Unlike the index, every apply has its own. */
  readonly sequence: number;
  /** Installed, and the log has not restarted behind it yet. */
  readonly installed: LogPosition | undefined;
};

export class MemoryState implements State {
  readonly #schedule: DurabilitySchedule;
  #tree = new SortedMap<Bytes>();
  #applied: LogPosition = { index: 0, term: 0 };
  #sequence = 0;
  #durable: Version = {
    tree: this.#tree.clone(),
    applied: this.#applied,
    sequence: 0,
    installed: undefined,
  };
  #backlogBytes = 0;
  #liveBytes = 0;
  /** Of the flush under way; replaced at a crash, so that a flush from before it has no effect. */
  #flushing: Promise<void> | undefined;
  #installing = false;
  #life = 0;

  constructor(options: { readonly schedule?: DurabilitySchedule } = {}) {
    this.#schedule = options.schedule ?? endOfTurn;
  }

  get applied(): LogPosition {
    return this.#applied;
  }

  get appliedIndex(): number {
    return this.#applied.index;
  }

  get durableIndex(): number {
    return this.#durable.applied.index;
  }

  get backlogBytes(): number {
    return this.#backlogBytes;
  }

  apply(index: number, writes: readonly Write[], term = this.#applied.term): void {
    assert(!this.#installing, 'nothing is applied while a state is installed');
    assert(index >= this.#applied.index, 'entries are applied in order');
    for (const write of writes) {
      const key = keyOf(write.key);
      const before = this.#tree.get(key);
      if (before !== undefined) this.#liveBytes -= key.length + before.length;
      this.#backlogBytes += key.length;
      if (write.kind === 'remove') {
        this.#tree.delete(key);
        continue;
      }
      this.#tree.set(key, Uint8Array.from(write.value));
      this.#liveBytes += key.length + write.value.length;
      this.#backlogBytes += write.value.length;
    }
    this.#applied = { index, term };
    this.#sequence += 1;
    void this.flush();
  }

  get(key: Bytes): Bytes | undefined {
    return this.#tree.get(keyOf(key));
  }

  scan(
    start: Bytes,
    end: Bytes | undefined,
    options: { readonly limit: number; readonly reverse?: boolean },
  ): readonly (readonly [key: Bytes, value: Bytes])[] {
    const found: [Bytes, Bytes][] = [];
    const from = keyOf(start);
    const to = end === undefined ? undefined : keyOf(end);
    if (options.limit <= 0) return found;
    for (const [key, value] of pairsBetween(this.#tree, from, to, options.reverse === true)) {
      found.push([bytesOf(key), value]);
      if (found.length === options.limit) break;
    }
    return found;
  }

  count(start: Bytes, end: Bytes | undefined, step: number): Counted {
    const to = end === undefined ? undefined : keyOf(end);
    let count = 0;
    for (const [name] of pairsBetween(this.#tree, keyOf(start), to, false)) {
      if (count === step) return { count, next: bytesOf(name) };
      count += 1;
    }
    return { count, next: undefined };
  }

  flush(): Promise<void> {
    if (this.#durable.sequence === this.#sequence) return Promise.resolve();
    this.#flushing ??= this.#startFlush();
    return this.#flushing.then(() => this.flush());
  }

  #startFlush(): Promise<void> {
    const version: Version = {
      tree: this.#tree.clone(),
      applied: this.#applied,
      sequence: this.#sequence,
      installed: undefined,
    };
    const backlogBytes = this.#backlogBytes;
    const life = this.#life;
    return new Promise((resolve) => {
      this.#schedule(() => {
        if (life !== this.#life) return;
        this.#flushing = undefined;
        // Not so when an installation has overtaken it.
        if (version.sequence > this.#durable.sequence) {
          this.#durable = { ...version, installed: this.#durable.installed };
          this.#backlogBytes -= backlogBytes;
        }
        resolve();
        if (this.#sequence > version.sequence) void this.flush();
      });
    });
  }

  async install(snapshot: ReceivedSnapshot): Promise<void> {
    assert(!this.#installing, 'installations do not overlap');
    const { applied, tree } = decodeState(snapshot);
    assert(applied.index >= this.#applied.index, 'an installed state is not older');
    this.#installing = true;
    const life = this.#life;
    await new Promise<void>((resolve) => {
      this.#schedule(() => {
        if (life !== this.#life) return;
        this.#sequence += 1;
        this.#durable = { tree, applied, sequence: this.#sequence, installed: applied };
        this.#goBackToDurable();
        resolve();
      });
    });
  }

  /** Where a state was installed whose log has not restarted yet. */
  get installed(): LogPosition | undefined {
    return this.#durable.installed;
  }

  /** The log has restarted. */
  confirmInstalled(): void {
    this.#durable = { ...this.#durable, installed: undefined };
  }

  /** Everything that is visible, as `install` takes it. */
  copy(): Uint8Array {
    return encodeState(this.#applied, this.#tree);
  }

  size(): { readonly totalBytes: number; readonly usedBytes: number } {
    return { totalBytes: this.#liveBytes, usedBytes: this.#liveBytes };
  }

  close(): Promise<void> {
    return this.flush();
  }

  /** Loses power: goes back to what was durable. What was under way never resolves. */
  crash(): void {
    this.#life += 1;
    this.#flushing = undefined;
    this.#goBackToDurable();
  }

  #goBackToDurable(): void {
    this.#installing = false;
    this.#tree = this.#durable.tree.clone();
    this.#applied = this.#durable.applied;
    this.#sequence = this.#durable.sequence;
    this.#backlogBytes = 0;
    this.#liveBytes = 0;
    for (const [key, value] of this.#tree.entries()) this.#liveBytes += key.length + value.length;
  }
}

type Batch = { readonly hardState?: HardState; readonly entries: readonly Entry[] };

export class MemoryLog implements Log {
  readonly #schedule: DurabilitySchedule;
  #hardState: HardState = { term: 0, votedFor: 0n, commit: 0 };
  #start = { index: 0, term: 0 };
  #entries: Entry[] = [];
  /** Takes effect when the disk says so. */
  #inFlight: (() => void) | undefined;
  readonly #afterReset: () => void;
  #life = 0;

  /** `afterReset`: called when a reset has become durable. */
  constructor(
    options: { readonly schedule?: DurabilitySchedule; readonly afterReset?: () => void } = {},
  ) {
    this.#schedule = options.schedule ?? endOfTurn;
    this.#afterReset = options.afterReset ?? (() => {});
  }

  /** What a restart finds: everything durable. */
  recovered(): Recovered {
    return { hardState: this.#hardState, start: this.#start, entries: [...this.#entries] };
  }

  append(batch: Batch): Promise<void> {
    assert(this.#inFlight === undefined, 'appends do not overlap');
    const first = batch.entries[0];
    if (first !== undefined) {
      assert(first.index > this.#start.index, 'released entries are never replaced');
      assert(first.index <= this.#lastIndex + 1, 'entries continue the log');
    }
    const entries = batch.entries.map((entry, position) => {
      assert(entry.index === (first?.index ?? 0) + position, 'entries are consecutive');
      return { ...entry, data: Uint8Array.from(entry.data) };
    });
    return this.#write(() => this.#add({ ...batch, entries }));
  }

  async reset(position: LogPosition, hardState: HardState): Promise<void> {
    assert(this.#inFlight === undefined, 'a reset and an append do not overlap');
    assert(position.index >= this.#start.index, 'a log never restarts below its beginning');
    await this.#write(() => this.restart(position, hardState));
    this.#afterReset();
  }

  /** A reset that takes effect at once. */
  restart({ index, term }: LogPosition, hardState: HardState): void {
    this.#hardState = hardState;
    if (this.#termAt(index) === term) return;
    this.#start = { index, term };
    this.#entries = [];
  }

  #write(effect: () => void): Promise<void> {
    this.#inFlight = effect;
    const life = this.#life;
    return new Promise((resolve) => {
      this.#schedule(() => {
        if (life !== this.#life) return;
        this.#settle();
        resolve();
      });
    });
  }

  /** undefined outside of the log. */
  #termAt(index: number): number | undefined {
    if (index === this.#start.index) return this.#start.term;
    return this.#entries[index - this.#start.index - 1]?.term;
  }

  get #lastIndex(): number {
    return this.#start.index + this.#entries.length;
  }

  #settle(): void {
    const effect = this.#inFlight;
    this.#inFlight = undefined;
    effect?.();
  }

  #add(batch: Batch): void {
    if (batch.hardState !== undefined) this.#hardState = batch.hardState;
    const first = batch.entries[0];
    if (first === undefined) return;
    this.#entries.length = first.index - this.#start.index - 1;
    for (const entry of batch.entries) this.#entries.push(entry);
  }

  async entries(from: number, to: number, maxBytes: number): Promise<readonly Entry[]> {
    if (from <= this.#start.index) throw new LogReleasedError(from, this.#start.index + 1);
    assert(from <= to && to <= this.#lastIndex, `entries ${from} to ${to} are within the log`);
    const found: Entry[] = [];
    let bytes = 0;
    const offset = this.#start.index + 1;
    for (const entry of this.#entries.slice(from - offset, to + 1 - offset)) {
      bytes += entry.data.length;
      if (found.length > 0 && bytes > maxBytes) break;
      found.push(entry);
    }
    return found;
  }

  async release(index: number): Promise<void> {
    const entry = this.#entries[index - this.#start.index - 1];
    if (entry === undefined) return;
    this.#entries = this.#entries.slice(index - this.#start.index);
    this.#start = { index: entry.index, term: entry.term };
  }

  async close(): Promise<void> {
    assert(this.#inFlight === undefined, 'the log is closed after the last append');
  }

  /**
   * Loses power. The append or reset under way never resolves; it has reached the disk as a whole or
   * has not, as `keepInFlight` says.
   */
  crash(options: { readonly keepInFlight: boolean } = { keepInFlight: false }): void {
    this.#life += 1;
    if (options.keepInFlight) this.#settle();
    this.#inFlight = undefined;
  }
}
