/**
 * What the keep-alive thread and the program's own thread tell each other about a lease without
 * waiting for each other: memory they share. So the program is right about its deadline in the very
 * statement after it blocked its event loop, before any message could arrive.
 */
import { type Clock, threadNs } from './clock.ts';
import type { Instant } from './session-deadline.ts';

/** How a lease stands with the thread. */
export type LeaseCondition =
  | 'renewed'
  /** The last attempt failed. */
  | 'failing'
  /** The store does not know it. */
  | 'gone'
  /** It was not renewed in time, and never will be again. */
  | 'late';

const conditions: readonly LeaseCondition[] = ['renewed', 'failing', 'gone', 'late'];

/** Odd while the thread writes the two times. */
const versionCell = 0;
const sentNsCell = 1;
const sentWallMsCell = 2;
const conditionCell = 3;
const cellCount = 4;

const looksMax = 100_000;

export class LeaseCells {
  readonly memory: SharedArrayBuffer;
  readonly #cells: BigInt64Array;

  constructor(memory = new SharedArrayBuffer(cellCount * BigInt64Array.BYTES_PER_ELEMENT)) {
    this.memory = memory;
    this.#cells = new BigInt64Array(memory);
  }

  /** A renewal that was sent then has succeeded. For the thread alone: it has one writer. */
  renewed(clock: Clock, sentAt: Instant): void {
    const ageNs = BigInt(Math.round((clock.monotonicMs() - sentAt.monotonicMs) * 1e6));
    Atomics.add(this.#cells, versionCell, 1n);
    Atomics.store(this.#cells, sentNsCell, threadNs() - ageNs);
    Atomics.store(this.#cells, sentWallMsCell, BigInt(Math.round(sentAt.wallMs)));
    Atomics.add(this.#cells, versionCell, 1n);
    this.condition = 'renewed';
  }

  get condition(): LeaseCondition {
    return conditions[Number(Atomics.load(this.#cells, conditionCell))] ?? 'late';
  }

  set condition(condition: LeaseCondition) {
    Atomics.store(this.#cells, conditionCell, BigInt(conditions.indexOf(condition)));
  }

  /** Rises with each renewal. */
  get version(): bigint {
    return Atomics.load(this.#cells, versionCell);
  }

  /** When the last renewal was sent, by the reader's clock; undefined before the first. */
  lastSentAt(clock: Clock): Instant | undefined {
    // The writer takes nanoseconds from odd to even, unless it was ended right there.
    for (let look = 0; look < looksMax; look++) {
      const { version } = this;
      const sentNs = Atomics.load(this.#cells, sentNsCell);
      const wallMs = Number(Atomics.load(this.#cells, sentWallMsCell));
      if (version % 2n !== 0n || version !== this.version) continue;
      if (version === 0n) return undefined;
      const ageMs = Number(threadNs() - sentNs) / 1e6;
      return { monotonicMs: clock.monotonicMs() - ageMs, wallMs };
    }
    return undefined;
  }
}

/** When the program's event loop last turned. */
export class PulseCell {
  readonly memory: SharedArrayBuffer;
  readonly #cells: BigInt64Array;

  constructor(memory = new SharedArrayBuffer(BigInt64Array.BYTES_PER_ELEMENT)) {
    this.memory = memory;
    this.#cells = new BigInt64Array(memory);
  }

  beat(): void {
    Atomics.store(this.#cells, 0, threadNs());
  }

  get ageMs(): number {
    return Number(threadNs() - Atomics.load(this.#cells, 0)) / 1e6;
  }
}
