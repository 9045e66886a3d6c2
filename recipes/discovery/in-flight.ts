/** Counts the work that an instance has begun and not finished, and tells when it has come to rest. */
import { type Pace, pause } from '../common/repeat.ts';
import { linkedSignal } from '../common/signals.ts';
import { untilAborted } from './until-aborted.ts';

export class InFlight {
  #count = 0;
  #onChange: () => void = () => undefined;

  get count(): number {
    return this.#count;
  }

  /** @returns ends it; ending it again does nothing */
  begin(): () => void {
    let ended = false;
    this.#count += 1;
    this.#onChange();
    return () => {
      if (ended) return;
      ended = true;
      this.#count -= 1;
      this.#onChange();
    };
  }

  /** Resolves once there was nothing for `quietMs` without a break, or when the signal aborts. */
  async untilQuiet({ clock }: Pace, quietMs: number, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const turn = linkedSignal(signal);
      this.#onChange = turn.abort;
      const wait = this.#count > 0 ? untilAborted : (on: AbortSignal) => pause(clock, quietMs, on);
      await wait(turn.signal).catch(() => undefined);
      const wasQuiet = !turn.signal.aborted;
      turn.unlink();
      this.#onChange = () => undefined;
      if (wasQuiet) return;
    }
  }
}
