/**
 * Whether a write may enter at all: its size, the alarms, the quota.
 *
 * Deletions, compactions and revocations are always let in: they are how space comes back.
 */
import { Fault } from '../faults.ts';
import type { Operation, PutRequest, TxnRequest } from '../mvcc/types.ts';
import type { Member } from './member.ts';

/** What a record costs beside its key and value, and what a lease costs: etcd's estimates. */
const RECORD_OVERHEAD_BYTES = 256;
const LEASE_BYTES = 64;

export const putCost = (request: PutRequest): number =>
  RECORD_OVERHEAD_BYTES + request.key.length + request.value.length;

/** The costlier branch, because nobody knows yet which one is taken. */
export const txnCost = (request: TxnRequest): number =>
  Math.max(operationsCost(request.success), operationsCost(request.failure));

const operationsCost = (operations: readonly Operation[]): number =>
  operations.reduce((sum, operation) => {
    if (operation.kind === 'put') return sum + putCost(operation);
    return operation.kind === 'txn' ? sum + txnCost(operation) : sum;
  }, 0);

export const LEASE_COST = LEASE_BYTES;

export class Admission {
  readonly #member: Member;
  readonly #maxRequestBytes: number;
  #raising: Promise<unknown> | undefined;

  constructor(member: Member, maxRequestBytes: number) {
    this.#member = member;
    this.#maxRequestBytes = maxRequestBytes;
  }

  refuseTooLarge(requestBytes: number): void {
    if (requestBytes > this.#maxRequestBytes) throw new Fault('request-too-large');
  }

  /** For every write. Throws the fault that keeps it out. */
  admit(): void {
    const { alarms } = this.#member;
    if (alarms.length > 0 && alarms.some((alarm) => alarm.alarm === 'corrupt')) {
      throw new Fault('corrupt');
    }
  }

  /** For writes that need space. Throws the fault that keeps out all of them. */
  hasRoomFor(costBytes: number): boolean {
    const { alarms, space } = this.#member;
    if (alarms.length > 0 && alarms.some((alarm) => alarm.alarm === 'no-space')) {
      throw new Fault('no-space');
    }
    return space.quotaBytes === 0 || space.usedBytes + costBytes < space.quotaBytes;
  }

  /** Always rejects, once the alarm is raised: whoever was refused finds it in the list. */
  async full(): Promise<never> {
    await this.#raiseAlarm();
    throw new Fault('no-space');
  }

  /** All members have to refuse from now on, not only this one. */
  #raiseAlarm(): Promise<unknown> {
    const { memberId } = this.#member;
    this.#raising ??= this.#member
      .propose({ kind: 'alarm', action: 'activate', memberId, alarm: 'no-space' })
      // The next write that finds the quota spent tries again.
      .catch(() => undefined)
      .finally(() => {
        this.#raising = undefined;
      });
    return this.#raising;
  }
}
