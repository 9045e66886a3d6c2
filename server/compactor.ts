/** Removes from the disk what was compacted, in slices: nobody can read it, so no reader is disturbed. */
import type { Installation } from './installation.ts';
import { limits } from './limits.ts';
import type { Machine } from './machine.ts';
import type { Clock, State, Timers } from './ports.ts';
import { SLICE_MS, sleep, yieldTurn } from './time-slice.ts';

export type CompactorOptions = {
  readonly machine: Machine;
  readonly state: State;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly installation: Installation;
  /** How long to wait for a disk that is full. */
  readonly retryMs: number;
  readonly onFailure: (error: unknown) => void;
};

export class Compactor {
  readonly #options: CompactorOptions;
  #done: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(options: CompactorOptions) {
    this.#options = options;
  }

  /** Resolves when everything scheduled so far is done, or it stopped. */
  get done(): Promise<void> {
    return this.#done;
  }

  /** To be called at the start and whenever there is more to remove. */
  schedule(): void {
    this.#done = this.#done.then(() => this.#run()).catch(this.#options.onFailure);
  }

  stop(): void {
    this.#stopped = true;
  }

  async #run(): Promise<void> {
    const { machine, state, clock, timers, installation, retryMs } = this.#options;
    while (!this.#stopped) {
      // The state that comes may need another compaction: one is scheduled behind its installation.
      if (installation.isRunning) return;
      if (state.backlogBytes > limits.overlayBytes / 2) {
        // A full disk is tried again; removing must not pile up in memory meanwhile.
        await state.flush().catch(() => sleep(timers, retryMs));
        continue;
      }
      const untilMs = clock.nowMs() + SLICE_MS;
      while (clock.nowMs() < untilMs) {
        const step = machine.compactionStep(state);
        if (step.writes.length > 0) state.apply(state.appliedIndex, step.writes);
        if (step.done) return;
      }
      await yieldTurn(timers);
    }
  }
}
