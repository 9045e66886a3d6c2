/**
 * The deadlines of all calls of a server. Most calls end long before theirs, so taking one off has to
 * cost nothing: calls are kept by the tick in which they are due, and one timer runs while there are
 * any. Clients keep their deadlines themselves; here a call may last a tick longer.
 */

export interface Expiring {
  /** The tick in which it is due; kept here. */
  dueTick: number;
  expire(): void;
}

const TICK_MS = 20;

export class Deadlines {
  readonly #due = new Map<number, Set<Expiring>>();
  #nextTick = 0;
  #timer: NodeJS.Timeout | undefined;

  add(call: Expiring, afterMs: number): void {
    const now = performance.now();
    if (this.#timer === undefined) {
      this.#nextTick = Math.floor(now / TICK_MS);
      this.#timer = setInterval(this.#tick, TICK_MS).unref();
    }
    call.dueTick = Math.ceil((now + afterMs) / TICK_MS);
    const calls = this.#due.get(call.dueTick);
    if (calls === undefined) this.#due.set(call.dueTick, new Set([call]));
    else calls.add(call);
  }

  delete(call: Expiring): void {
    const calls = this.#due.get(call.dueTick);
    if (calls?.delete(call) === true && calls.size === 0) this.#due.delete(call.dueTick);
  }

  readonly #tick = (): void => {
    const now = Math.floor(performance.now() / TICK_MS);
    // After a long pause there are fewer ticks with calls than there are ticks.
    if (now - this.#nextTick > this.#due.size) {
      for (const tick of [...this.#due.keys()].sort((a, b) => a - b)) {
        if (tick <= now) this.#expire(tick);
      }
    } else for (let tick = this.#nextTick; tick <= now; tick++) this.#expire(tick);
    this.#nextTick = now + 1;
    if (this.#due.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  };

  #expire(tick: number): void {
    const calls = this.#due.get(tick);
    if (calls === undefined) return;
    this.#due.delete(tick);
    for (const call of calls) call.expire();
  }
}
