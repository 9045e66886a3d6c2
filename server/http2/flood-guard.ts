/**
 * Frames that cost the sender nothing and get it nowhere: pings, settings, empty data, streams begun
 * and reset. A client that does its work sends some, and each answer that it gets makes up for more of
 * them than it needs; one that sends nothing else uses its allowance up (CVE-2019-9512 and following,
 * CVE-2023-44487).
 */
import { ConnectionError, ErrorCode } from './error.ts';

/** All calls that a connection may have can be cancelled at once. */
const ALLOWANCE = 20_000;
const ALLOWANCE_PER_SECOND = 1_000;
const ALLOWANCE_PER_ANSWER = 4;

export class FloodGuard {
  #left = ALLOWANCE;
  #filledMs: number;

  constructor(nowMs: number) {
    this.#filledMs = nowMs;
  }

  /** @throws {ConnectionError} ENHANCE_YOUR_CALM */
  spend(): void {
    if (this.#left > 0) {
      this.#left -= 1;
      return;
    }
    const nowMs = performance.now();
    const earned = Math.floor(((nowMs - this.#filledMs) * ALLOWANCE_PER_SECOND) / 1_000);
    if (earned < 1) {
      throw new ConnectionError(
        ErrorCode.ENHANCE_YOUR_CALM,
        'too many frames that only keep the server busy',
      );
    }
    this.#filledMs = nowMs;
    this.#left = Math.min(ALLOWANCE, earned) - 1;
  }

  answered(): void {
    this.#left = Math.min(ALLOWANCE, this.#left + ALLOWANCE_PER_ANSWER);
  }
}
