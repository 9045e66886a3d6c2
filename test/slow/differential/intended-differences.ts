/**
 * Where conclave does not do what etcd 3.4.23 does, on purpose. Each entry says why, and applies as
 * narrowly as it can be told from the request and the two outcomes. Everything else is a failure.
 */
import type { Step } from '../../support/generators/step.ts';
import type { Outcome, Plain } from './normalise.ts';

export type Observation = {
  readonly step: Step;
  /** The request as the reference got it. */
  readonly request: Plain;
  readonly reference: Outcome;
  readonly subject: Outcome;
};

export type IntendedDifference = {
  readonly name: string;
  readonly why: string;
  readonly accepts: (observation: Observation) => boolean;
};

const membershipCalls = new Set(['memberAdd', 'memberRemove', 'memberUpdate', 'memberPromote']);
const unimplemented = 12;

function field(value: Plain, name: string): Plain {
  return typeof value === 'object' && !Array.isArray(value) ? value[name] : undefined;
}

export const intendedDifferences: readonly IntendedDifference[] = [
  {
    name: 'membership is fixed',
    why: 'Members are given when the cluster is created; every change is refused as a whole, before its arguments are looked at.',
    accepts: ({ step, subject }) =>
      step.kind === 'call' &&
      membershipCalls.has(step.call) &&
      !subject.ok &&
      subject.code === unimplemented,
  },
  {
    name: 'hash at the compacted revision',
    why: 'That revision is still readable, and etcd since 3.6 hashes it; 3.4 refuses it as compacted.',
    accepts: ({ step, request, reference, subject }) =>
      step.kind === 'call' &&
      step.call === 'hashKv' &&
      !reference.ok &&
      reference.message === 'etcdserver: mvcc: required revision has been compacted' &&
      subject.ok &&
      field(subject.body, 'compactRevision') === field(request, 'revision'),
  },
];

/**
 * Delete events at exactly the compacted revision: etcd before 3.5.16 drops the tombstone there when
 * its compaction gets to it (etcd #18089, #19179), so a watcher that starts at that revision misses
 * the deletion. conclave keeps it. They are left out of the comparison on both sides.
 */
export function withoutTombstonesAt(compacted: bigint, events: readonly Plain[]): readonly Plain[] {
  const revision = `${compacted}n`;
  return events.filter((event) => {
    if (typeof event !== 'object' || Array.isArray(event)) return true;
    const kv = event['kv'];
    if (typeof kv !== 'object' || Array.isArray(kv)) return true;
    return !(event['type'] === 1 && kv['modRevision'] === revision);
  });
}

/**
 * Progress on a stream with a watcher that waits for a future revision: etcd 3.4.23 answers every
 * request; since etcd #15220 and #20221 such a request stays unanswered, as in conclave.
 */
export function withoutProgress(control: readonly Plain[]): readonly Plain[] {
  return control.filter(
    (response) =>
      typeof response !== 'object' ||
      Array.isArray(response) ||
      response['watchId'] !== '-1n' ||
      response['created'] === true,
  );
}
