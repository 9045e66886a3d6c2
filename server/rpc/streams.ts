/**
 * Ends the open streams of a server: gRPC itself waits for them forever.
 *
 * Streams whose client asked for a leader also end when there has been none for three election
 * timeouts, as in etcd: such a client rather tries another member.
 */
import { Fault, type FaultCode } from '../faults.ts';
import type { Timers } from '../ports.ts';
import type { MemberFacts } from './member.ts';

export interface OpenStream {
  readonly needsLeader: boolean;
  /** Ends it with the fault's status. */
  fail(fault: Fault): void;
}

/** Election timeouts without a leader after which streams that need one end. */
const LEADERLESS_TIMEOUTS = 3;

export class OpenStreams {
  readonly #member: MemberFacts;
  readonly #streams = new Set<OpenStream>();
  readonly #stopChecking: () => void;
  #leaderlessTicks = 0;

  constructor(member: MemberFacts, timers: Timers) {
    this.#member = member;
    this.#stopChecking = timers.every(member.electionTimeoutMs, () => this.#checkLeader());
  }

  add(stream: OpenStream): void {
    this.#streams.add(stream);
  }

  delete(stream: OpenStream): void {
    this.#streams.delete(stream);
  }

  get size(): number {
    return this.#streams.size;
  }

  #checkLeader(): void {
    this.#leaderlessTicks = this.#member.leader === 0n ? this.#leaderlessTicks + 1 : 0;
    if (this.#leaderlessTicks < LEADERLESS_TIMEOUTS) return;
    this.#failAll('no-leader', (stream) => stream.needsLeader);
  }

  #failAll(code: FaultCode, concerns: (stream: OpenStream) => boolean): void {
    for (const stream of [...this.#streams]) {
      if (!concerns(stream)) continue;
      this.#streams.delete(stream);
      stream.fail(new Fault(code));
    }
  }

  close(): void {
    this.#stopChecking();
    this.#failAll('stopped', () => true);
  }
}
