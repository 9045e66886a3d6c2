/** What is configured differently from run to run. */
import type { AutoCompactionPolicy } from '../../../server/auto-compaction.ts';
import type { Decisions } from '../engine/decisions.ts';
import { MS, SECOND } from '../engine/engine.ts';

export type FullKnobs = {
  readonly members: number;
  readonly clients: number;
  readonly heartbeatMs: number;
  readonly electionTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly snapshotCount: number;
  readonly catchUpEntries: number;
  readonly segmentBytes: number;
  readonly meanFlushUs: number;
  readonly progressIntervalMs: number;
  readonly autoCompaction: AutoCompactionPolicy;
  readonly usesCodec: boolean;
  readonly keys: number;
  readonly meanPauseMs: number;
  readonly leaseTtlSeconds: number;
  readonly changesMembers: boolean;
  /** By how much wall clocks differ at most. */
  readonly clockSpreadMs: number;
  /** Between two disturbances of clients; 0 for none. */
  readonly meanDisturbanceUs: number;
};

export function drawFullKnobs(decisions: Decisions): FullKnobs {
  const draw = (name: string, bound: number) => decisions.site('knobs', name).below(bound);
  const oneOf = <T>(name: string, first: T, ...others: readonly T[]): T => {
    const at = draw(name, 1 + others.length);
    return at === 0 ? first : (others[at - 1] ?? first);
  };
  const heartbeatMs = 100;
  const electionTimeoutMs = heartbeatMs * (5 + draw('election-ticks', 16));
  return {
    members: oneOf('members', 3, 1, 3, 3, 5, 5, 3, 7),
    clients: 3 + draw('clients', 4),
    heartbeatMs,
    electionTimeoutMs,
    requestTimeoutMs: 5_000 + 2 * electionTimeoutMs,
    snapshotCount: oneOf('snapshot', 10_000, 10, 100, 1_000),
    catchUpEntries: oneOf('catch-up', 5_000, 5, 20, 100),
    segmentBytes: oneOf('segment', 64 * 1024, 8 * 1024, 256 * 1024),
    meanFlushUs: oneOf('flush', 20 * MS, 200 * MS, 2_000 * MS),
    progressIntervalMs: oneOf('progress', 1_000, 200, 10_000),
    autoCompaction: oneOf<AutoCompactionPolicy>(
      'compaction',
      { mode: 'off' },
      { mode: 'revision', keep: 50 },
      { mode: 'periodic', retentionMs: 20_000 },
    ),
    usesCodec: oneOf('codec', false, true),
    keys: oneOf('keys', 6, 2, 20),
    meanPauseMs: oneOf('client-pause', 60, 15, 250),
    leaseTtlSeconds: oneOf('ttl', 2, 1, 5, 20),
    clockSpreadMs: oneOf('clock-spread', 0, 50, 100_000),
    changesMembers: oneOf('change-members', false, true, false),
    meanDisturbanceUs: oneOf('disturb-clients', 0, 3, 15) * SECOND,
  };
}
