/**
 * Leases in time. A lease lives at least its TTL from the moment at which its last successful renewal
 * was sent, whatever the server's clock did, and ends within TTL and a stated slack after the last
 * renewal that can have reached the server.
 */
import { describeOperation, isAnswered } from './history.ts';
import type { Commit, StoreOperation } from './store.ts';

export type LeaseCheckInput = {
  readonly log: readonly Commit[];
  readonly operations: readonly StoreOperation[];
  /** In the clock of the history. */
  readonly unitsPerSecond: number;
  /** How long after its TTL a lease may still hold its keys: election, apply, clock drift. */
  readonly slackSeconds: number;
  /** When the history ended, with every member healthy. */
  readonly end: number;
};

type Life = {
  readonly lease: bigint;
  ttlSeconds: number;
  /** When the last successful grant or renewal was sent. */
  sent: StoreOperation | undefined;
  /** When the last one that can have reached the server was over. */
  lastPossible: number;
  isRevoked: boolean;
};

/** What is wrong with the ends of leases, in words. Only leases that held a key can be judged. */
export function checkLeases(input: LeaseCheckInput): string[] {
  const { log, operations, unitsPerSecond, slackSeconds, end } = input;
  const violations: string[] = [];
  const lives = livesOf(operations);
  const told = new ToldRevisions(operations);
  for (const [lease, endRevision] of endsOf(log)) {
    const life = lives.get(lease);
    if (life === undefined) {
      violations.push(`lease ${lease} held keys and was never granted`);
      continue;
    }
    if (life.isRevoked) continue;
    const latest = life.lastPossible + (life.ttlSeconds + slackSeconds) * unitsPerSecond;
    if (endRevision === undefined) {
      if (latest < end)
        violations.push(`lease ${lease} still holds keys, ${end - latest} after its latest end`);
      continue;
    }
    const known = told.firstAtOrAfter(endRevision);
    const { sent } = life;
    if (sent !== undefined && known < sent.invoked + life.ttlSeconds * unitsPerSecond)
      violations.push(
        `lease ${lease} of ${life.ttlSeconds} s ended at revision ${endRevision}, known at ${known}, too early after ${describeOperation(sent)}`,
      );
    const before = told.lastInvokedBelow(endRevision);
    if (before > latest)
      violations.push(
        `lease ${lease} ended at revision ${endRevision}, not before ${before}; it had to end by ${latest}`,
      );
  }
  return violations;
}

function livesOf(operations: readonly StoreOperation[]): Map<bigint, Life> {
  const lives = new Map<bigint, Life>();
  for (const operation of operations) {
    const { action, outcome, invoked, returned } = operation;
    if (action.kind !== 'grant' && action.kind !== 'renew' && action.kind !== 'revoke') continue;
    const life = lives.get(action.lease) ?? {
      lease: action.lease,
      ttlSeconds: 0,
      sent: undefined,
      lastPossible: 0,
      isRevoked: false,
    };
    lives.set(action.lease, life);
    if (action.kind === 'grant') life.ttlSeconds = action.ttlSeconds;
    if (outcome.kind === 'fail') continue;
    if (action.kind === 'revoke') {
      life.isRevoked = true;
      continue;
    }
    life.lastPossible = Math.max(life.lastPossible, returned);
    if (isAnswered(operation) && invoked > (life.sent?.invoked ?? Number.NEGATIVE_INFINITY))
      life.sent = operation;
  }
  return lives;
}

/** Every lease that held a key, with the revision that took its last key, if one did. */
function endsOf(log: readonly Commit[]): Map<bigint, number | undefined> {
  const leaseOfKey = new Map<string, bigint>();
  const keyCount = new Map<bigint, number>();
  const ends = new Map<bigint, number | undefined>();
  for (const { revision, changes } of log)
    for (const { key, entry } of changes) {
      const before = leaseOfKey.get(key);
      if (before !== undefined) {
        const left = (keyCount.get(before) ?? 1) - 1;
        keyCount.set(before, left);
        leaseOfKey.delete(key);
        if (left === 0 && entry === undefined) ends.set(before, revision);
      }
      if (entry !== undefined && entry.lease !== 0n) {
        leaseOfKey.set(key, entry.lease);
        keyCount.set(entry.lease, (keyCount.get(entry.lease) ?? 0) + 1);
        ends.set(entry.lease, undefined);
      }
    }
  // Overwritten without the lease: it holds nothing and nothing shows its end.
  for (const [lease, end] of ends)
    if (end === undefined && keyCount.get(lease) === 0) ends.delete(lease);
  return ends;
}

/** When revisions were known to have happened, and known not to have happened yet. */
class ToldRevisions {
  readonly #byReturn: readonly { readonly at: number; readonly revision: number }[];
  readonly #byInvocation: readonly { readonly at: number; readonly revision: number }[];

  constructor(operations: readonly StoreOperation[]) {
    const answered = operations.filter(isAnswered);
    const revisionOf = (operation: (typeof answered)[number]) => operation.outcome.answer.revision;
    this.#byReturn = answered
      .map((operation) => ({ at: operation.returned, revision: revisionOf(operation) }))
      .sort((a, b) => a.at - b.at);
    this.#byInvocation = answered
      .filter(({ action }) => !('serializable' in action && action.serializable === true))
      .map((operation) => ({ at: operation.invoked, revision: revisionOf(operation) }))
      .sort((a, b) => b.at - a.at);
  }

  firstAtOrAfter(wanted: number): number {
    return (
      this.#byReturn.find(({ revision }) => revision >= wanted)?.at ?? Number.POSITIVE_INFINITY
    );
  }

  lastInvokedBelow(wanted: number): number {
    return (
      this.#byInvocation.find(({ revision }) => revision < wanted)?.at ?? Number.NEGATIVE_INFINITY
    );
  }
}
