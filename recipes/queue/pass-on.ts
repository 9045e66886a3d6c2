/** What others wait for when a job is finished: the turn of its group, and its parent. */
import type { Client } from '../../sdk/client.ts';
import { type QueueKeys, queueKeys } from '../names.ts';
import type { JobState } from './job-record.ts';
import { releaseParent } from './parent-release.ts';
import { passTurns } from './turns.ts';

/**
 * Passes on what a finished job leaves. Never rejects: the marks that its last transaction left stay,
 * and a sweep does what failed here.
 *
 * @param responses of the transaction that finished it
 */
export async function passOn(
  client: Client,
  { keys, state }: { readonly keys: QueueKeys; readonly state: JobState },
  responses: readonly unknown[],
  signal?: AbortSignal,
): Promise<void> {
  const { group, turn, parent } = state;
  try {
    // The nested transaction that finds the group's line empty succeeds.
    if (group !== undefined && turn !== undefined && responses.some(hasNotSucceeded)) {
      await passTurns(client, keys, group, signal);
    }
    if (parent !== undefined) {
      await releaseParent(client, queueKeys(parent.queue), parent.id, signal);
    }
  } catch {
    // Left to a sweep.
  }
}

const hasNotSucceeded = (response: unknown): boolean =>
  typeof response === 'object' &&
  response !== null &&
  'succeeded' in response &&
  !response.succeeded;
