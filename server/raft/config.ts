/** What a member is started with, and the checks that refuse a start that could not be safe. */
import type { Random, Recovered } from '../ports.ts';
import { type Configuration, configurationFault } from './configuration.ts';
import { NO_NODE, type NodeId } from './message.ts';

export type RaftLimits = {
  /** Entries in one append message, unless a single entry is larger. */
  readonly appendBytes: number;
  /** Appends on their way to one peer. */
  readonly inflightMessages: number;
  /** Bytes of entries on their way to one peer; one message may exceed it. */
  readonly inflightBytes: number;
  /** Proposals that await commit; more are refused as `overloaded`. */
  readonly uncommittedBytes: number;
  /** Entries in one `Ready.committed`, unless a single entry is larger. */
  readonly committedBytes: number;
};

const MiB = 1024 * 1024;

export const defaultRaftLimits: RaftLimits = {
  appendBytes: MiB,
  inflightMessages: 256,
  inflightBytes: 16 * MiB,
  uncommittedBytes: 64 * MiB,
  committedBytes: 4 * MiB,
};

export type RaftConfig = {
  readonly id: NodeId;
  /**
   * In force at `appliedIndex`. A member that does not vote in it follows but never campaigns; a
   * member that joins begins with none at all.
   */
  readonly configuration: Configuration;
  /** A follower campaigns after a random time in [electionTicks, 2 * electionTicks) without a leader. */
  readonly electionTicks: number;
  readonly heartbeatTicks: number;
  /** Ask before raising the term, so that a member that was cut off does not disturb on return. */
  readonly preVote: boolean;
  /** A leader that hears no quorum for `electionTicks` steps down. */
  readonly checkQuorum: boolean;
  readonly random: Random;
  readonly recovered: Recovered;
  /** What the state machine has durably applied; it gets the entries after this one. */
  readonly appliedIndex: number;
  /** @default defaultRaftLimits */
  readonly limits?: Partial<RaftLimits>;
};

/** The configuration, or what storage held, cannot be started from. */
export class RaftConfigError extends Error {
  override name = 'RaftConfigError';
  readonly code = 'raft-config';
}

/** Throws `RaftConfigError`. */
export function validateConfig(config: RaftConfig): void {
  const { recovered, appliedIndex } = config;
  const { hardState, start } = recovered;
  const last = recovered.entries.at(-1) ?? start;

  check(config.id !== NO_NODE, 'id', config.id, 'a number other than 0');
  const fault = configurationFault(config.configuration);
  if (fault !== undefined) {
    throw new RaftConfigError(`Cannot start as 'configuration' is not one: ${fault}`);
  }
  check(isCount(config.heartbeatTicks), 'heartbeatTicks', config.heartbeatTicks, 'at least 1');
  check(
    Number.isSafeInteger(config.electionTicks) && config.electionTicks > config.heartbeatTicks,
    'electionTicks',
    config.electionTicks,
    `more than heartbeatTicks (${config.heartbeatTicks})`,
  );
  for (const [name, value] of Object.entries(config.limits ?? {})) {
    check(isCount(value), `limits.${name}`, value, 'at least 1');
  }
  check(
    last.term <= hardState.term,
    'recovered.hardState.term',
    hardState.term,
    `at least the last entry's term (${last.term}); the hard state was lost`,
  );
  check(
    hardState.commit <= last.index,
    'recovered.hardState.commit',
    hardState.commit,
    `at most the last entry's index (${last.index}); entries were lost`,
  );
  check(
    appliedIndex >= start.index && appliedIndex <= last.index,
    'appliedIndex',
    appliedIndex,
    `between ${start.index} and ${last.index}, where the log begins and ends; state and log do not belong together`,
  );
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 1;
}

function check(holds: boolean, field: string, value: unknown, allowed: string): void {
  if (!holds) {
    throw new RaftConfigError(`Cannot start as '${field}' must be ${allowed}: it is ${value}`);
  }
}
