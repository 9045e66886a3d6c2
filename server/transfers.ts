/** Requests to hand leadership over, until it is where they want it, or certainly will not get there. */
import type { FaultCode } from './faults.ts';
import { NO_NODE, type NodeId } from './raft/message.ts';

/** What is looked at: Raft. */
export type Leading = {
  readonly role: string;
  readonly leader: NodeId;
  /** Whom leadership is being handed to. */
  readonly transferee: NodeId | undefined;
};

type Transfer = { readonly id: number; readonly to: NodeId; readonly deadlineMs: number };
export type Settled = { readonly id: number; readonly fault: FaultCode | undefined };

export class Transfers {
  #underWay: Transfer[] = [];

  begin(id: number, to: NodeId, deadlineMs: number): void {
    this.#underWay.push({ id, to, deadlineMs });
  }

  /** Ends those that are decided. */
  settle(leading: Leading, nowMs: number): readonly Settled[] {
    if (this.#underWay.length === 0) return NONE;
    const settled: Settled[] = [];
    this.#underWay = this.#underWay.filter((transfer) => {
      const fault = verdict(transfer, leading, nowMs);
      if (fault === 'open') return true;
      settled.push({ id: transfer.id, fault });
      return false;
    });
    return settled;
  }
}

/** Undefined when it succeeded. */
function verdict(
  { to, deadlineMs }: Transfer,
  { role, leader, transferee }: Leading,
  nowMs: number,
): FaultCode | undefined | 'open' {
  if (leader === to) return undefined;
  // Given up by Raft: the target did not catch up, or did not win.
  if (role === 'leader' && transferee !== to) return 'timeout';
  if (role !== 'leader' && leader !== NO_NODE) return 'leader-changed';
  return nowMs < deadlineMs ? 'open' : 'timeout';
}

const NONE: readonly Settled[] = [];
