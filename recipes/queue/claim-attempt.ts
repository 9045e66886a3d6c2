/**
 * Claiming jobs in one transaction: each is claimed if its entry in the line is as it was read, its
 * slot is free and the limits of the queue are as known.
 */
import type { Client } from '../../sdk/client.ts';
import type { KeyValue, ListResult } from '../../sdk/kv.ts';
import {
  compare,
  type Operation,
  type Operations,
  op,
  type Txn,
  type TxnResult,
} from '../../sdk/txn.ts';
import { untilAnswered } from '../common/repeat.ts';
import { type QueueKeys, randomId } from '../names.ts';
import type { ClaimRate } from './claim-rate.ts';
import { idOfEntry, slotKey } from './job-places.ts';
import { type ClaimState, encodeState, readClaimState, readJobState } from './job-record.ts';
import { payloadOf } from './light-jobs.ts';
import type { KnownLimits } from './queue-limits.ts';

export type Granted = {
  readonly id: string;
  readonly createRevision: bigint;
  readonly state: ClaimState;
  readonly payload: Uint8Array | undefined;
};

export type AttemptOutcome = {
  readonly granted: readonly Granted[];
  /** Jobs that somebody else got. */
  readonly lost: number;
  /** Jobs that may still be had. */
  readonly untried: readonly KeyValue[];
  /** The worker's key is gone. */
  readonly notEnlisted: boolean;
  /** The limits that are stored, if they are not as known. */
  readonly limits?: KeyValue | null;
  /** The state of the rate, if it is not as known. */
  readonly rate?: KeyValue | null;
  /** The slots that are taken, if one of those asked for was. */
  readonly slots?: readonly KeyValue[];
};

export type Attempt = {
  /**
   * Idempotent: a repetition recognises what an earlier one claimed.
   *
   * @param send commits the transaction
   * @param signal ends the search for what an earlier one claimed
   */
  commit(send: Send, signal: AbortSignal): Promise<AttemptOutcome>;
};

export type Send = (txn: Txn<Operations, Operations>) => Promise<TxnResult<Operations, Operations>>;

export type AttemptOptions = {
  /** One for each entry, if the queue's concurrency is limited. */
  readonly slots: readonly number[] | undefined;
  readonly limits: KnownLimits;
  readonly rate: ClaimRate;
  readonly claimedBy: {
    readonly worker: string;
    readonly visibilityMs: number;
    readonly maxAttempts: number;
  };
};

type One = {
  readonly entry: KeyValue;
  readonly id: string;
  readonly state: ClaimState;
  readonly operation: Operation;
};

export function claimAttempt(
  client: Client,
  keys: QueueKeys,
  entries: readonly KeyValue[],
  { slots, limits, rate, claimedBy }: AttemptOptions,
): Attempt {
  const { kv } = client;
  const { worker, visibilityMs, maxAttempts } = claimedBy;
  const workerKey = keys.worker + worker;
  const unique = randomId(client.random);
  const claimedMs = client.clock.wallMs();
  const each = entries.map((entry, index): One => {
    const id = idOfEntry(entry.key);
    const before = readJobState(entry);
    const slot = slots?.[index];
    const state: ClaimState = {
      ...before,
      attempts: before.attempts + 1,
      worker,
      nonce: `${unique}-${index}`,
      visibilityMs,
      attemptsMax: before.maxAttempts ?? maxAttempts,
      claimedMs,
      ...(slot === undefined ? {} : { slot }),
    };
    const claim = keys.claim + id;
    const slotOf = slot === undefined ? [] : [slotKey(keys, slot)];
    const operation = op.txn(
      kv
        .txn()
        .if(
          compare.modRevision(entry.key, '==', entry.modRevision),
          ...slotOf.map((key) => compare.createRevision(key, '==', 0n)),
        )
        .then(
          op.delete(entry.key),
          op.put(claim, encodeState(state)),
          ...slotOf.map((key) => op.put(key, state.nonce)),
          ...payloadOf(keys, id, state),
        )
        .else(...(slot === undefined ? [] : [op.get(entry.key)])),
    );
    return { entry, id, state, operation };
  });
  const limit = limits.current.rate;
  const paced = limit === undefined ? [] : [rate.take(limit, entries.length, unique)];
  const txn = kv
    .txn()
    .if(
      compare.createRevision(workerKey, '>', 0n),
      limits.asKnown,
      ...paced.map(({ condition }) => condition),
    )
    .then(
      ...each.map(({ operation }) => operation),
      ...(slots === undefined ? [] : [op.list({ prefix: keys.slot }, { keysOnly: true })]),
      ...paced.map(({ operation }) => operation),
    )
    .else(op.get(workerKey), op.get(keys.limits), rate.read);
  let tries = 0;

  /** Which of these an earlier try claimed whose answer was lost. */
  const claimedBefore = async (
    ones: readonly One[],
    signal: AbortSignal,
  ): Promise<readonly Granted[]> => {
    if (tries === 1 || ones.length === 0) return [];
    const read = kv
      .txn()
      .then(
        ...ones.map(({ id }) =>
          op.txn(kv.txn().then(op.get(keys.claim + id), op.get(keys.job + id))),
        ),
      );
    const { responses } = await untilAnswered(client, () => read.commit({ signal }), signal);
    return ones.flatMap(({ id, state }, index) => {
      const [claim = null, record = null] = responses[index]?.responses ?? [];
      return claim !== null && readClaimState(claim).nonce === state.nonce
        ? [granted(id, claim.createRevision, state, record)]
        : [];
    });
  };

  const commit = async (send: Send, signal: AbortSignal): Promise<AttemptOutcome> => {
    tries += 1;
    const result = await send(txn);
    const responses: readonly unknown[] = result.responses;
    if (!result.succeeded) {
      const before = await claimedBefore(each, signal);
      const [enlisted, stored = null, paceNow = null] = responses as readonly (KeyValue | null)[];
      return {
        granted: before,
        lost: 0,
        untried: each.filter(isNotIn(before)).map(({ entry }) => entry),
        notEnlisted: !enlisted && before.length === 0,
        ...(enlisted ? { limits: stored, rate: paceNow } : {}),
      };
    }
    for (const { wrote } of paced) wrote(result.revision);
    const won: Granted[] = [];
    const missed: One[] = [];
    const untried: KeyValue[] = [];
    for (const [index, one] of each.entries()) {
      const nested = responses[index] as TxnResult<Operations, Operations>;
      const found = nested.responses.at(-1) as KeyValue | null | undefined;
      if (nested.succeeded) {
        won.push(granted(one.id, result.revision, one.state, found));
      } else if (found?.modRevision === one.entry.modRevision) untried.push(found);
      else missed.push(one);
    }
    const before = await claimedBefore(missed, signal);
    return {
      granted: [...won, ...before],
      lost: missed.length - before.length,
      untried,
      notEnlisted: false,
      ...(untried.length > 0 ? { slots: (responses[each.length] as ListResult).kvs } : {}),
    };
  };
  return { commit };
}

function granted(
  id: string,
  createRevision: bigint,
  state: ClaimState,
  record: KeyValue | null | undefined,
): Granted {
  const payload = state.data === undefined ? record?.value : Buffer.from(state.data);
  return { id, createRevision, state, payload };
}

const isNotIn =
  (granted: readonly Granted[]) =>
  ({ id }: One): boolean =>
    !granted.some((one) => one.id === id);
