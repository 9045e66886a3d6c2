/**
 * Where waiting jobs stand, as keys whose order is the order in which they are offered:
 *
 *     ready/[<priority>/][<rank>!/]<id>
 *     line/<group>/[<priority>/]<id>
 *     at/<due>/<id>
 *
 * Ids and ranks start with a revision in hexadecimal. The priority level is absent for priority 0,
 * starts with `!` (before every digit) above and with `~` (behind every letter) below. A rank is the
 * revision at which the turn of its group became free: the job goes behind what was ready by then, which
 * makes groups take turns. `!` sorts before the `-` of an id, so it goes before what came later.
 */
import type { Kv } from '../../sdk/kv.ts';
import { compare, type Operation, op } from '../../sdk/txn.ts';
import { type QueueKeys, sortableHex } from '../names.ts';
import { encodeState, type JobState } from './job-record.ts';

/** Priorities are whole numbers from minus this to this. */
export const priorityMax = 100;

const priorityLevel = (priority = 0): string => {
  if (priority === 0) return '';
  const distance = (priority > 0 ? 0xff - priority : -priority).toString(16).padStart(2, '0');
  return `${priority > 0 ? '!' : '~'}${distance}/`;
};

/** The id of a waiting job: the last level of its key. */
export const idOfEntry = (key: string): string => key.slice(key.lastIndexOf('/') + 1);

export const readyKey = (keys: QueueKeys, id: string, { priority, rank }: JobState): string =>
  `${keys.ready}${priorityLevel(priority)}${rank === undefined ? '' : `${rank}!/`}${id}`;

export const groupLine = (keys: QueueKeys, group: string): string => `${keys.line}${group}/`;

export const lineKey = (keys: QueueKeys, group: string, id: string, state: JobState): string =>
  `${groupLine(keys, group)}${priorityLevel(state.priority)}${id}`;

export const groupTurns = (keys: QueueKeys, group: string): string => `${keys.turn}${group}/`;

export const turnKey = (keys: QueueKeys, group: string, turn: number): string =>
  `${groupTurns(keys, group)}${turn}`;

export const slotKey = (keys: QueueKeys, slot: number): string => `${keys.slot}${slot}`;

export const atKey = (keys: QueueKeys, dueMs: number, id: string): string =>
  `${keys.at}${sortableHex(BigInt(Math.max(0, Math.ceil(dueMs))))}/${id}`;

/** The id and due time that an `at/` key encodes. */
export function parseAtKey(keys: QueueKeys, key: string): { id: string; dueMs: number } {
  const [due = '0', id = ''] = key.slice(keys.at.length).split('/');
  return { id, dueMs: Number.parseInt(due, 16) || 0 };
}

export type Arrival = {
  /** Not before this, on a wall clock. */
  readonly dueMs?: number | undefined;
  /**
   * Whether a job that has to line up calls for a look at its group's turns. False only for those
   * who know that the group has one turn, which then is taken.
   */
  readonly callForTurn?: boolean;
};

/**
 * Makes a job wait at its place: until it is due; for a turn of its group, unless it has one or one
 * is free; or to be claimed. The result of a nested transaction that did not succeed says that the
 * job lines up.
 */
export function arrival(
  kv: Kv,
  keys: QueueKeys,
  id: string,
  state: JobState,
  { dueMs, callForTurn = true }: Arrival = {},
): Operation {
  if (dueMs !== undefined) {
    return op.put(atKey(keys, dueMs, id), encodeState({ ...state, dueMs }));
  }
  const { group } = state;
  if (group === undefined || state.turn !== undefined) {
    return op.put(readyKey(keys, id, state), encodeState(state));
  }
  const turn = turnKey(keys, group, 0);
  const withTurn = { ...state, turn: 0 };
  const line = groupLine(keys, group);
  return op.txn(
    kv
      .txn()
      .if(
        compare.createRevision(turn, '==', 0n),
        compare.range.createRevision({ prefix: line }, '==', 0n),
      )
      .then(op.put(turn, id), op.put(readyKey(keys, id, withTurn), encodeState(withTurn)))
      .else(
        op.put(lineKey(keys, group, id, state), encodeState(state)),
        ...(callForTurn ? [op.put(keys.pass + group, id)] : []),
      ),
  );
}

/** Behind everything that is ready at this revision. */
export const rankedAt = (state: JobState, revision: bigint): JobState =>
  state.group === undefined ? state : { ...state, rank: sortableHex(revision) };
