/** One client: which of its calls are remembered, and in which slot each result is. */
import type { Scheduled } from '../lease/expiry-heap.ts';
import { limits } from '../limits.ts';
import type { Bytes } from '../mvcc/types.ts';
import type { ClientCall, ClientId } from './call.ts';
import { headKey } from './records.ts';
import { Slots } from './slots.ts';

type Held = { readonly slot: number; readonly bytes: number };

/** What a call is before it is executed; a number is the slot with the answer it got before. */
export type Verdict = 'new' | 'sequence-forgotten' | 'too-many-requests' | number;

export class Client implements Scheduled {
  readonly id: ClientId;
  readonly head: Bytes;
  /** The newest entry that was this client's. */
  activeIndex: number;
  /** When that entry was applied here. */
  activeMs: number;
  /** May be too early: `activeMs` decides. */
  expiresAtMs: number;
  place = -1;
  /** Its end is proposed; it is not in the heap then. */
  isExpiring = false;
  #floor = 1;
  #heldBytes = 0;
  /** By sequence; all are at or above the floor. */
  readonly #held = new Map<number, Held>();
  readonly #slots = new Slots();

  constructor(id: ClientId, index: number, nowMs: number) {
    this.id = id;
    this.head = headKey(id);
    this.activeIndex = index;
    this.activeMs = nowMs;
    this.expiresAtMs = nowMs + limits.clientTtlSeconds * 1000;
  }

  /** All calls below are answered, and the answers forgotten. */
  get floor(): number {
    return this.#floor;
  }

  /** Slots that have a record in the state: those below. */
  get slotsEnd(): number {
    return this.#slots.end;
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** Changes nothing. */
  judge(call: ClientCall): Verdict {
    const { sequence } = call;
    const floor = Math.max(this.#floor, call.floor);
    if (sequence < floor) return 'sequence-forgotten';
    const held = this.#held.get(sequence);
    if (held !== undefined) return held.slot;
    return sequence - floor < limits.clientWindow ? 'new' : 'too-many-requests';
  }

  /** Forgets what is below `floor`; a lower one than before changes nothing. */
  advance(floor: number): void {
    if (floor <= this.#floor) return;
    if (floor - this.#floor <= this.#held.size) {
      for (let sequence = this.#floor; sequence < floor; sequence += 1) this.#forget(sequence);
    } else {
      for (const sequence of this.#held.keys()) {
        if (sequence < floor) this.#forget(sequence);
      }
    }
    this.#floor = floor;
  }

  /** Remembers a call that was judged `new`, and returns its slot. */
  hold(sequence: number, bytes: number): number {
    const slot = this.#slots.take();
    this.#held.set(sequence, { slot, bytes });
    this.#heldBytes += bytes;
    return slot;
  }

  /** Takes over what the state says of a slot. The floor is that of all its records, so comes first. */
  restore(slot: number, sequence: number, bytes: number): void {
    if (sequence < this.#floor) {
      this.#slots.note(slot);
      return;
    }
    this.#slots.occupy(slot);
    this.#held.set(sequence, { slot, bytes });
    this.#heldBytes += bytes;
  }

  #forget(sequence: number): void {
    const held = this.#held.get(sequence);
    if (held === undefined) return;
    this.#held.delete(sequence);
    this.#heldBytes -= held.bytes;
    this.#slots.release(held.slot);
  }
}
