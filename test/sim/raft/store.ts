/**
 * What a member keeps: the log on its disk, and the state machine as far as Raft can tell. The state
 * is flushed now and then; a crash takes it back to something since the last flush.
 *
 * A crash in the middle of a log write leaves a beginning of it, in the order that `StorageWrite`
 * promises: the received state, the restarted log, the hard state, some of the entries. The WAL,
 * which writes a batch as one frame, promises more.
 */
import type { Recovered } from '../../../server/ports.ts';
import type { Configuration } from '../../../server/raft/configuration.ts';
import type { StorageWrite } from '../../../server/raft/message.ts';
import { hold } from '../engine/violation.ts';
import { LogDisk } from './log-disk.ts';

/** The state machine after the entry at (index, term). */
export type StateImage = {
  readonly index: number;
  readonly term: number;
  readonly configuration: Configuration;
};

export class MemberStore {
  readonly log = new LogDisk();
  #durable: StateImage;
  /** Since the last flush, ascending. */
  #unflushed: StateImage[] = [];
  /** The state was replaced, and the log does not know it yet. */
  #isInstalling = false;

  constructor(initial: StateImage) {
    this.#durable = initial;
  }

  get state(): StateImage {
    return this.#unflushed.at(-1) ?? this.#durable;
  }

  get durable(): StateImage {
    return this.#durable;
  }

  apply(image: StateImage): void {
    this.#unflushed.push(image);
  }

  flush(): void {
    this.#durable = this.state;
    this.#unflushed = [];
  }

  /** How many outcomes `finish` can have besides a complete one. */
  partsOf({ snapshot, entries }: StorageWrite): number {
    return (snapshot === undefined ? 0 : 2) + 1 + entries.length;
  }

  /** Carries out the first `parts` of a write; all of it by default. */
  finish(write: StorageWrite, parts = this.partsOf(write)): void {
    let left = parts;
    if (write.snapshot !== undefined) {
      if (left-- <= 0) return;
      this.#durable = write.snapshot;
      this.#unflushed = [];
      this.#isInstalling = true;
      if (left-- <= 0) return;
      this.log.restart(write.snapshot);
      this.#isInstalling = false;
    }
    if (left-- <= 0) return;
    this.log.finish(write, left);
  }

  /** What a crash leaves: `choose` says how much of what was not flushed. */
  crash(choose: (bound: number) => number): void {
    const kept = choose(this.#unflushed.length + 1);
    this.#durable = this.#unflushed[kept - 1] ?? this.#durable;
    this.#unflushed = [];
  }

  /** What a start finds. An interrupted installation is finished. */
  recover(): Recovered {
    const { log } = this;
    const { index, term } = this.#durable;
    if (log.termAt(index) !== term) {
      hold(
        this.#isInstalling,
        7,
        () => `the state at ${index} of term ${term} does not continue the log`,
      );
      log.restart({ index, term });
    }
    this.#isInstalling = false;
    return log.recovered();
  }
}
