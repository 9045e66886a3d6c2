/** Notices that nothing comes in on a connection any more, such as from a process that is stopped. */
import type { Socket } from 'node:net';

/**
 * Ticks in an election timeout. Time is counted in ticks of the own event loop: when this process
 * stood still itself, the others have not been silent.
 */
export const TICKS_PER_ELECTION_TIMEOUT = 10;

/** A tick less than the timeout: what was heard within the first tick of it counts from its end. */
export const SILENT_TICKS = TICKS_PER_ELECTION_TIMEOUT - 1;

export class SilenceWatch {
  readonly #socket: Socket;
  readonly #limit: number;
  #bytes = 0;
  #ticks = 0;

  constructor(socket: Socket, limit: number) {
    this.#socket = socket;
    this.#limit = limit;
  }

  /** To be asked once a tick. */
  isSilent(): boolean {
    const bytes = this.#socket.bytesRead;
    if (bytes === this.#bytes) this.#ticks += 1;
    else this.#ticks = 0;
    this.#bytes = bytes;
    return this.#ticks >= this.#limit;
  }
}
