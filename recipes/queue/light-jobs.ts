/**
 * Light jobs: small texts that are ready at once and that nothing but their id leads to. Their payload
 * stands in their entry, which saves the writing, reading and removing of a record of their own.
 */
import { isUtf8 } from 'node:buffer';
import { type GetOperation, type Operation, op } from '../../sdk/txn.ts';
import type { QueueKeys } from '../names.ts';
import type { JobState } from './job-record.ts';

/**
 * Larger payloads are written once, to a record: whoever watches for jobs, or extends a claim, has
 * nothing to do with them.
 */
const lightBytes = 1_024;

/** The payload as it may travel with the job, if it may. */
export function lightData(
  payload: Uint8Array,
  { dedup, group, priority, parent, isParent }: JobState,
  dueMs: number | undefined,
): string | undefined {
  const isAlone = dedup === undefined && parent === undefined && isParent === undefined;
  const isInLine = group === undefined && priority === undefined && dueMs === undefined;
  if (!(isAlone && isInLine && payload.length <= lightBytes && isUtf8(payload))) return undefined;
  return Buffer.from(payload.buffer, payload.byteOffset, payload.length).toString('utf8');
}

/** Removes the record of a job, if it has one. */
export const recordGone = (keys: QueueKeys, id: string, { data }: JobState): Operation[] =>
  data === undefined ? [op.delete(keys.job + id)] : [];

/** Reads the payload of a job, unless that is known. */
export const payloadOf = (keys: QueueKeys, id: string, { data }: JobState): GetOperation[] =>
  data === undefined ? [op.get(keys.job + id)] : [];

/** A light job that goes elsewhere: its state there, and what writes its record. */
export function recorded<State extends JobState>(
  keys: QueueKeys,
  id: string,
  state: State,
): { readonly state: State; readonly operations: readonly Operation[] } {
  const { data, ...rest } = state;
  if (data === undefined) return { state, operations: [] };
  return { state: rest as State, operations: [op.put(keys.job + id, data)] };
}
