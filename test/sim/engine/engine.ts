/**
 * Virtual time: a heap of events, ordered by time and then by when they were scheduled. Nothing else
 * decides what runs next, so a run is a function of its decisions.
 */
import type { Decisions } from './decisions.ts';
import { TraceHash } from './trace.ts';

export const MS = 1_000;
export const SECOND = 1_000 * MS;

/** Something that will happen, unless it is cancelled before. */
export class Scheduled {
  readonly at: number;
  readonly sequence: number;
  readonly run: () => void;
  isCancelled = false;

  constructor(at: number, sequence: number, run: () => void) {
    this.at = at;
    this.sequence = sequence;
    this.run = run;
  }

  cancel(): void {
    this.isCancelled = true;
  }
}

export class Engine {
  readonly decisions: Decisions;
  readonly trace = new TraceHash();
  /** Called with what happens, for people, when a run is to be read. */
  readonly narrate: ((line: string) => void) | undefined;
  #now = 0;
  #sequence = 0;
  #heap: Scheduled[] = [];
  #events = 0;

  constructor(decisions: Decisions, narrate?: (line: string) => void) {
    this.decisions = decisions;
    this.narrate = narrate;
  }

  /** Microseconds since the start of the run. */
  get now(): number {
    return this.#now;
  }

  /** Events that have run. */
  get events(): number {
    return this.#events;
  }

  /** Tells what happened; the line is only made when somebody reads it. */
  tell(line: () => string): void {
    this.narrate?.(`${(this.#now / MS).toFixed(3).padStart(12)} ms  ${line()}`);
  }

  after(delayUs: number, run: () => void): Scheduled {
    this.#sequence += 1;
    const event = new Scheduled(this.#now + Math.max(0, delayUs), this.#sequence, run);
    this.#push(event);
    return event;
  }

  /** Runs the next event, if there is one before `untilUs`. */
  step(untilUs: number): boolean {
    for (;;) {
      const next = this.#heap[0];
      if (next === undefined || next.at > untilUs) return false;
      this.#pop();
      if (next.isCancelled) continue;
      this.#now = next.at;
      this.#events += 1;
      next.run();
      return true;
    }
  }

  /** Runs everything up to `untilUs`, which is what the clock shows afterwards. */
  runUntil(untilUs: number): void {
    while (this.step(untilUs)) {
      // Everything happens in `step`.
    }
    this.#now = Math.max(this.#now, untilUs);
  }

  #push(event: Scheduled): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const parentAt = (at - 1) >> 1;
      const parent = heap[parentAt];
      if (parent === undefined || isBefore(parent, event)) break;
      heap[at] = parent;
      at = parentAt;
    }
    heap[at] = event;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let at = 0;
    for (;;) {
      let childAt = 2 * at + 1;
      let child = heap[childAt];
      if (child === undefined) break;
      const right = heap[childAt + 1];
      if (right !== undefined && isBefore(right, child)) {
        child = right;
        childAt += 1;
      }
      if (isBefore(last, child)) break;
      heap[at] = child;
      at = childAt;
    }
    heap[at] = last;
  }
}

const isBefore = (a: Scheduled, b: Scheduled): boolean =>
  a.at !== b.at ? a.at < b.at : a.sequence < b.sequence;
