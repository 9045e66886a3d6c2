/**
 * Which entries of the log may go. What the state holds durably needs no log for itself; but other
 * members may be behind, and one that gets a copy of the state needs everything after it.
 */
import { limits } from './limits.ts';
import type { Log, State } from './ports.ts';
import type { Entry } from './raft/message.ts';
import type { Replica } from './replica.ts';

export type LogRetentionOptions = {
  readonly replica: Replica;
  readonly log: Log;
  readonly state: State;
  /** Entries that may go are released at the latest when they are so many. */
  readonly snapshotCount: number;
  /** Entries kept behind the newest applied one, where there are others. */
  readonly catchUpEntries: number;
};

/** Files are removed when all of their entries are released: a release is cheap, a long log is not. */
const RELEASE_ENTRIES = 500;
/** A member that did not take up the log behind its copy within this time gets another copy. */
const HOLD_MS = 30_000;

/** How finely the bytes of the log are known. */
const MARK_BYTES = limits.catchUpBytes / 64;

type Hold = { readonly index: number; untilMs: number };

export class LogRetention {
  readonly #options: LogRetentionOptions;
  /** By member. */
  readonly #holds = new Map<bigint, Hold>();
  #releasedIndex = 0;
  /** Bytes of all entries up to these, ascending. */
  #marks: { readonly index: number; readonly bytes: number }[] = [];
  #bytes = 0;

  constructor(options: LogRetentionOptions) {
    this.#options = options;
  }

  /** To be told of everything that the log holds, in order; a tail may be replaced. */
  stored(entries: readonly Entry[]): void {
    const first = entries[0];
    if (first === undefined) return;
    while ((this.#marks.at(-1)?.index ?? 0) >= first.index) this.#marks.pop();
    for (const { index, data } of entries) {
      this.#bytes += data.length;
      if (this.#bytes - (this.#marks.at(-1)?.bytes ?? 0) >= MARK_BYTES) {
        this.#marks.push({ index, bytes: this.#bytes });
      }
    }
  }

  /** Keeps all entries after `index` for a member that gets a copy of the state at `index`. */
  hold(member: bigint, index: number): void {
    this.#holds.set(member, { index, untilMs: Number.POSITIVE_INFINITY });
  }

  /** The copy arrived, or did not: the log is kept a little longer. */
  letGo(member: bigint, nowMs: number): void {
    const hold = this.#holds.get(member);
    if (hold !== undefined) hold.untilMs = nowMs + HOLD_MS;
  }

  /** Called every tick. Rejects when the log fails. */
  async release(nowMs: number): Promise<void> {
    const { replica, log, state, snapshotCount } = this.#options;
    const kept = this.#keptAfter(nowMs);
    const index = Math.min(state.durableIndex, kept);
    replica.release(index);
    if (index - this.#releasedIndex < Math.min(snapshotCount, RELEASE_ENTRIES)) return;
    this.#releasedIndex = index;
    await log.release(index);
  }

  /** Everything after it is for other members. */
  #keptAfter(nowMs: number): number {
    const { replica, state, catchUpEntries } = this.#options;
    const isAlone = replica.machine.members.length <= 1;
    const behind = Math.max(state.appliedIndex - catchUpEntries, this.#beyondBytes());
    let index = isAlone ? state.appliedIndex : behind;
    for (const [member, hold] of this.#holds) {
      if (hold.untilMs < nowMs) this.#holds.delete(member);
      else index = Math.min(index, hold.index);
    }
    return index;
  }

  /** Up to here, what follows is more than may be kept. */
  #beyondBytes(): number {
    const beyond = this.#marks.findLastIndex(
      ({ bytes }) => this.#bytes - bytes >= limits.catchUpBytes,
    );
    if (beyond > 0) this.#marks = this.#marks.slice(beyond);
    return beyond < 0 ? 0 : (this.#marks[0]?.index ?? 0);
  }
}
