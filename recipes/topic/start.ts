/** Where a subscription begins. */
import type { Client } from '../../sdk/client.ts';
import { invalidArgument } from '../../sdk/errors.ts';
import type { Cursor } from './message-reader.ts';
import { readIndex } from './topic-index.ts';
import type { TopicKeys } from './topic-keys.ts';

/**
 * - 'new': what is published from now on.
 * - 'earliest': the oldest message that there is.
 * - a revision: what came after it; a gap tells what of that has been removed.
 * - a time: the first message published then or later, by the wall clocks of the publishers.
 */
export type Start = 'new' | 'earliest' | bigint | Date;

/** @throws ConclaveError INVALID_ARGUMENT */
export function checkStart(from: Start): void {
  if (from === 'new' || from === 'earliest') return;
  if (typeof from === 'bigint' && from >= 0n) return;
  if (from instanceof Date && !Number.isNaN(from.getTime())) return;
  throw invalidArgument('from', from, "'new', 'earliest', a revision (0n or more) or a Date");
}

/** A time costs one exchange for each 1,000 messages, the others none. */
export async function cursorOf(
  client: Client,
  keys: TopicKeys,
  from: Start,
  signal: AbortSignal,
): Promise<Cursor> {
  if (from === 'new') return 'now';
  if (from === 'earliest') return 0n;
  if (typeof from === 'bigint') return from;
  const { entries, revision } = await readIndex(client, keys, signal);
  const first = entries.find(({ publishedMs }) => publishedMs >= from.getTime());
  return first === undefined ? revision : first.revision - 1n;
}
