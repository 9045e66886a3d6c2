/**
 * A process on a machine of its own: clock, timers, and everything that it is told. It can be killed,
 * which ends all that it had under way, and stopped for a while, as by SIGSTOP or a long collection.
 */

import type { Cancel, Clock as ClientClock } from '../../../sdk/clock.ts';
import type { Clock as ServerClock, Timers } from '../../../server/ports.ts';
import { type Engine, MS } from '../engine/engine.ts';
import { Violation } from '../engine/violation.ts';

/** Where the wall clocks of a run begin. */
const EPOCH_MS = 1_700_000_000_000;

/** How clocks of a run differ. */
export type Clocks = {
  /** In speed, at most, in parts per million. */
  readonly driftPpm: number;
  /** In what wall clocks show at the start, at most. */
  readonly spreadMs: number;
};

export class SimProcess {
  readonly engine: Engine;
  readonly name: string;
  readonly number: number;
  /** How fast its clock goes. */
  readonly #rate: number;
  readonly #originMs: number;
  readonly #wallOriginMs: number;
  #life: Life | undefined;
  #isPaused = false;
  #missed: (() => void)[] = [];

  constructor(engine: Engine, number: number, name: string, clocks: Clocks) {
    this.engine = engine;
    this.number = number;
    this.name = name;
    const site = engine.decisions.site('knobs', `clock ${number}`);
    const { driftPpm, spreadMs } = clocks;
    this.#rate = 1 + (site.below(2 * driftPpm + 1) - driftPpm) / 1_000_000;
    this.#originMs = site.below(100_000);
    this.#wallOriginMs = EPOCH_MS + site.below(spreadMs + 1);
  }

  get life(): Life | undefined {
    return this.#life;
  }

  get isUp(): boolean {
    return this.#life !== undefined;
  }

  get isPaused(): boolean {
    return this.#isPaused;
  }

  /** Milliseconds of its monotonic clock. */
  get nowMs(): number {
    return this.#originMs + (this.engine.now / MS) * this.#rate;
  }

  get wallMs(): number {
    return this.#wallOriginMs + (this.engine.now / MS) * this.#rate;
  }

  /** Microseconds of the simulation that its clock takes for `ms`. */
  durationUs(ms: number): number {
    return Math.ceil((Math.max(0, ms) * MS) / this.#rate);
  }

  start(): Life {
    this.kill();
    this.#life = new Life(this);
    return this.#life;
  }

  kill(): void {
    this.#life?.end();
    this.#life = undefined;
    this.#isPaused = false;
    this.#missed = [];
  }

  pause(): void {
    if (this.isUp) this.#isPaused = true;
  }

  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    const missed = this.#missed;
    this.#missed = [];
    // One event each, as they would have been: what one leads to may come before the next.
    for (const run of missed) this.engine.after(0, run);
  }

  /** Runs it in this life of the process, when the process runs. */
  run(life: Life, work: () => void): void {
    if (!life.isAlive) return;
    if (this.#isPaused) {
      this.#missed.push(() => this.run(life, work));
      return;
    }
    try {
      work();
    } catch (error) {
      if (!life.isAlive) return;
      if (error instanceof Violation) throw error;
      const reason = error instanceof Error ? error.message : String(error);
      throw new Violation(22, `${this.name}: ${reason}`, { cause: error });
    }
  }
}

/** One run of a process. What it scheduled ends with it. */
export class Life implements ServerClock, Timers, ClientClock {
  readonly process: SimProcess;
  readonly #onEnd: (() => void)[] = [];
  #isAlive = true;

  constructor(process: SimProcess) {
    this.process = process;
  }

  get isAlive(): boolean {
    return this.#isAlive;
  }

  end(): void {
    this.#isAlive = false;
    for (const each of this.#onEnd.splice(0)) each();
  }

  /** What the machine does when the process is gone. */
  atEnd(run: () => void): void {
    this.#onEnd.push(run);
  }

  run(work: () => void): void {
    this.process.run(this, work);
  }

  nowMs(): number {
    return this.process.nowMs;
  }

  monotonicMs(): number {
    return this.process.nowMs;
  }

  wallMs(): number {
    return this.process.wallMs;
  }

  after(delayMs: number, run: () => void): () => void {
    const event = this.process.engine.after(this.process.durationUs(delayMs), () => this.run(run));
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      event.cancel();
    };
  }

  every(intervalMs: number, run: () => void): () => void {
    let cancel: () => void = () => undefined;
    let isOver = false;
    const next = () => {
      cancel = this.after(intervalMs, () => {
        if (isOver) return;
        next();
        run();
      });
    };
    next();
    return () => {
      isOver = true;
      cancel();
    };
  }

  soon(run: () => void): void {
    this.process.engine.after(0, () => this.run(run));
  }

  setTimer(delayMs: number, callback: () => void): Cancel {
    return this.after(delayMs, callback);
  }

  /** Resolves after a delay of the world outside, a disk or a network. */
  wait(delayUs: number): Promise<void> {
    return new Promise((resolve) => {
      this.process.engine.after(delayUs, () => this.run(resolve));
    });
  }
}
