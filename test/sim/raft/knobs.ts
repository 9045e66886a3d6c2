/** What is configured differently from run to run. */
import type { Decisions } from '../engine/decisions.ts';
import { MS } from '../engine/engine.ts';

export type RaftKnobs = {
  readonly members: number;
  readonly electionTicks: number;
  readonly heartbeatTicks: number;
  readonly preVote: boolean;
  readonly checkQuorum: boolean;
  readonly appendBytes: number;
  readonly inflightMessages: number;
  readonly inflightBytes: number;
  readonly uncommittedBytes: number;
  readonly committedBytes: number;
  /** Inputs are gathered for so long before their effects are carried out. */
  readonly turnUs: number;
  readonly meanApplyUs: number;
  readonly meanFlushUs: number;
  /** Entries kept for slow peers behind what the state holds durably. */
  readonly catchUpEntries: number;
  /** Messages leave before the log write begins, or after. */
  readonly sendFirst: boolean;
  readonly meanProposalUs: number;
  readonly meanReadUs: number;
  /** How unevenly ticks come, as a part of the interval. */
  readonly tickJitter: number;
};

/** What an entry with a few bytes of data costs; see `entryBytes` in the log. */
const ENTRY_BYTES = 40;

export function drawKnobs(decisions: Decisions): RaftKnobs {
  const draw = (name: string, bound: number) => decisions.site('knobs', name).below(bound);
  const oneOf = <T>(name: string, first: T, ...others: readonly T[]): T => {
    const at = draw(name, 1 + others.length);
    return at === 0 ? first : (others[at - 1] ?? first);
  };
  return {
    members: oneOf('members', 3, 5, 3, 5, 7, 1, 3, 5),
    electionTicks: 5 + draw('election-ticks', 16),
    heartbeatTicks: oneOf('heartbeat-ticks', 1, 1, 2, 3),
    preVote: oneOf('pre-vote', true, false),
    checkQuorum: oneOf('check-quorum', true, false),
    appendBytes: oneOf('append-entries', 1, 2, 8, 64) * ENTRY_BYTES,
    inflightMessages: oneOf('inflight', 256, 1, 2, 4, 16),
    inflightBytes: oneOf('inflight-bytes', 1 << 20, 4 * ENTRY_BYTES, 64 * ENTRY_BYTES),
    uncommittedBytes: oneOf('uncommitted-bytes', 1 << 20, 50 * ENTRY_BYTES),
    committedBytes: oneOf('committed-bytes', 1 << 20, 1, 4 * ENTRY_BYTES),
    turnUs: oneOf('turn', 0, 0, 500, 5 * MS),
    meanApplyUs: oneOf('apply', 0, MS, 50 * MS),
    meanFlushUs: oneOf('flush', 10 * MS, 200 * MS, 2_000 * MS),
    catchUpEntries: oneOf('catch-up', 5_000, 5, 20, 100),
    sendFirst: oneOf('send-first', true, false),
    meanProposalUs: oneOf('proposals', 100, 20, 500) * MS,
    meanReadUs: oneOf('reads', 200, 30, 1_000) * MS,
    tickJitter: oneOf('tick-jitter', 0, 0.1, 0.5),
  };
}
