/** Callers of this member that wait for the outcome of a proposal, by its id. */
import type { CommandResult } from './command.ts';
import { Fault, type FaultCode } from './faults.ts';
import type { Proposal } from './proposer.ts';

type Pending = {
  readonly resolve: (result: CommandResult) => void;
  readonly reject: (reason: Fault) => void;
  /** To be proposed again until `repeatUntilMs`; undefined for what is proposed only once. */
  readonly proposal: Proposal | undefined;
  readonly repeatUntilMs: number;
};

export class PendingProposals {
  readonly #pending = new Map<number, Pending>();

  get size(): number {
    return this.#pending.size;
  }

  /** Waits for a command, which counts as one proposal until `repeatUntilMs`, whoever leads. */
  waitFor(proposal: Proposal, repeatUntilMs: number): Promise<CommandResult> {
    return new Promise((resolve, reject) => {
      this.#pending.set(proposal.id, { resolve, reject, proposal, repeatUntilMs });
    });
  }

  waitForOnce(id: number): Promise<CommandResult> {
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject, proposal: undefined, repeatUntilMs: 0 });
    });
  }

  resolve(id: number, result: CommandResult): void {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    if (result.kind === 'fault') pending?.reject(new Fault(result.code));
    else pending?.resolve(result);
  }

  /**
   * What the replica says of one that did not get a result. `leader changed` is a promise that it did
   * not take effect and never will, so it is returned to be proposed again: to the caller a change of
   * leaders is a delay.
   */
  fail(id: number, code: FaultCode, nowMs: number): Proposal | 'failed' | 'nobody-waits' {
    const pending = this.#pending.get(id);
    if (pending === undefined) return 'nobody-waits';
    const { proposal } = pending;
    if (code === 'leader-changed' && proposal !== undefined && nowMs < pending.repeatUntilMs) {
      return proposal;
    }
    this.#pending.delete(id);
    pending.reject(new Fault(code));
    return 'failed';
  }

  failAll(code: FaultCode): void {
    for (const { reject } of this.#pending.values()) reject(new Fault(code));
    this.#pending.clear();
  }
}
