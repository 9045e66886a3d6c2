/**
 * What storage has, what it is writing, and which messages wait for it.
 *
 * At most one write is under way. Whatever comes up meanwhile gathers for the next one, so a flush
 * is shared by all that waited for it. A message that promises something about this member's disk
 * (a vote, an accepted append, a candidacy) is held here until the promise is true; nobody outside
 * can send it too early.
 *
 * Invariant D1: `durableIndex` counts only entries that are in the log now and were in a finished
 * write. Entries that are replaced while their write is under way do not count when it finishes, even
 * if the same ones have come back: they are written again. So a late confirmation can never vouch
 * for an entry that storage has, or will have, replaced.
 * Invariant D2: from the moment a snapshot is taken until the write with it is finished, the state
 * machine and the log do not fit together: `isInstalling`, and nothing is applied meanwhile.
 */
import { assert } from '../assert.ts';
import type { RaftLog } from './log.ts';
import type { HardState, Message, SnapshotPosition, StorageWrite } from './message.ts';

type UnderWay = {
  readonly sequence: number;
  /** The last entry of the write that is still in the log unchanged. */
  lastIndex: number;
  readonly hardState: HardState;
  readonly snapshot: SnapshotPosition | undefined;
  /** Released when the write finishes. */
  readonly messages: Message[];
};

export class Durability {
  #sequence = 0;
  #underWay: UnderWay | undefined;
  /** The last entry that storage was given and that is still in the log unchanged. */
  #givenIndex: number;
  #given: HardState;
  #durableIndex: number;
  #durable: HardState;
  /** For the next write. */
  #snapshot: SnapshotPosition | undefined;
  #waiting: Message[] = [];

  constructor(hardState: HardState, lastIndex: number) {
    this.#given = hardState;
    this.#durable = hardState;
    this.#givenIndex = lastIndex;
    this.#durableIndex = lastIndex;
  }

  get durableIndex(): number {
    return this.#durableIndex;
  }

  /** The hard state that a restart would find. */
  get durable(): HardState {
    return this.#durable;
  }

  get isWriting(): boolean {
    return this.#underWay !== undefined;
  }

  /** A snapshot was taken and is not yet durable (invariant D2). */
  get isInstalling(): boolean {
    return this.#snapshot !== undefined || this.#underWay?.snapshot !== undefined;
  }

  /** Sends the message after all that holds now (log, term, vote) is durable. */
  hold(message: Message): void {
    this.#waiting.push(message);
  }

  /** The log has other entries from `index` on than before (invariant D1). */
  replacedFrom(index: number): void {
    const kept = index - 1;
    this.#givenIndex = Math.min(this.#givenIndex, kept);
    this.#durableIndex = Math.min(this.#durableIndex, kept);
    if (this.#underWay !== undefined) {
      this.#underWay.lastIndex = Math.min(this.#underWay.lastIndex, kept);
    }
  }

  /**
   * The log begins anew after the snapshot. One that waits for its write is superseded; one whose
   * write is under way gets installed first.
   *
   * @param kept the last entry that the old log and the leader's surely share.
   */
  restart(snapshot: SnapshotPosition, kept: number): void {
    this.replacedFrom(kept + 1);
    this.#givenIndex = snapshot.index;
    this.#snapshot = snapshot;
  }

  /** Whether `begin` would bring anything. */
  hasWork(log: RaftLog, hardState: HardState): boolean {
    if (this.#underWay !== undefined) return false;
    return this.#waiting.length > 0 || this.#isBehind(log, hardState);
  }

  /** Starts the next write if there is something to write and none is under way. */
  begin(
    log: RaftLog,
    state: HardState,
  ): { readonly write: StorageWrite | undefined; readonly messages: readonly Message[] } {
    // What a snapshot covers is committed, and its write makes it durable as a whole.
    const commit = Math.max(state.commit, this.#snapshot?.index ?? 0);
    const hardState = { ...state, commit };
    const behind = this.#isBehind(log, hardState);
    if (this.#underWay !== undefined) {
      // Everything that these messages promise is in the write under way, or they wait for the next.
      if (!behind) this.#underWay.messages.push(...this.#takeWaiting());
      return { write: undefined, messages: [] };
    }
    if (!behind) return { write: undefined, messages: this.#takeWaiting() };

    this.#sequence += 1;
    const snapshot = this.#snapshot;
    this.#underWay = {
      sequence: this.#sequence,
      lastIndex: log.lastIndex,
      hardState,
      snapshot,
      messages: this.#takeWaiting(),
    };
    const entries =
      log.lastIndex > this.#givenIndex
        ? log.slice(this.#givenIndex + 1, log.lastIndex, Number.POSITIVE_INFINITY)
        : [];
    const write = { sequence: this.#sequence, entries };
    const changed = differs(hardState, this.#given) || hardState.commit !== this.#given.commit;
    this.#given = hardState;
    this.#givenIndex = log.lastIndex;
    this.#snapshot = undefined;
    if (snapshot !== undefined) return { write: { ...write, snapshot, hardState }, messages: [] };
    return { write: changed ? { ...write, hardState } : write, messages: [] };
  }

  /**
   * The write is durable.
   *
   * @returns the messages that waited for it, and the snapshot that was in it.
   */
  end(sequence: number): {
    readonly messages: readonly Message[];
    readonly snapshot: SnapshotPosition | undefined;
  } {
    const finished = this.#underWay;
    assert(finished?.sequence === sequence, 'storage confirms the one write under way, once');
    this.#underWay = undefined;
    this.#durable = finished.hardState;
    this.#durableIndex = Math.max(this.#durableIndex, finished.lastIndex);
    return { messages: finished.messages, snapshot: finished.snapshot };
  }

  /** A new commit index alone is not worth a flush: it rides along with the next write. */
  #isBehind(log: RaftLog, hardState: HardState): boolean {
    return (
      this.#snapshot !== undefined ||
      log.lastIndex > this.#givenIndex ||
      differs(hardState, this.#given)
    );
  }

  #takeWaiting(): Message[] {
    const taken = this.#waiting;
    this.#waiting = [];
    return taken;
  }
}

function differs(a: HardState, b: HardState): boolean {
  return a.term !== b.term || a.votedFor !== b.votedFor;
}
