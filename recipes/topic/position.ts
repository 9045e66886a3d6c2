/** How far a durable subscription or a group is: a key that stays, moved by whoever may. */
import type { Client } from '../../sdk/client.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { compare, op } from '../../sdk/txn.ts';
import { untilAnswered } from '../common/repeat.ts';
import type { Cursor } from './message-reader.ts';
import type { TopicGap } from './topic-events.ts';
import { revisionIn } from './topic-keys.ts';

export type Position = {
  /** Everything up to here is done with. */
  readonly at: bigint;
  /** The position's own mod revision: whoever moves it compares that. */
  readonly modRevision: bigint;
};

export type OpenPosition = Position & {
  /**
   * Where a position lies in the future, as a cursor may that was kept when the store went back to an
   * older state: `at` is now then, and this is to be delivered first. Settling that moves it.
   */
  readonly gap?: TopicGap;
};

export const writePosition = (at: bigint): string => JSON.stringify({ v: 1, at: at.toString() });

/** One that begins with 'now' names no revision: it is at the one that created it. */
export const readPosition = (kv: KeyValue): Position => ({
  at: revisionIn(kv.value, 'at') ?? kv.createRevision,
  modRevision: kv.modRevision,
});

/** Reads the position, or creates it where it is to begin. One exchange. */
export async function openPosition(
  client: Client,
  key: string,
  start: Cursor,
  signal: AbortSignal,
): Promise<OpenPosition> {
  const value = start === 'now' ? JSON.stringify({ v: 1 }) : writePosition(start);
  const txn = client.kv
    .txn()
    .if(compare.createRevision(key, '==', 0n))
    .then(op.put(key, value), op.get(key))
    .else(op.get(key));
  const result = await untilAnswered(client, () => txn.commit({ signal }), signal);
  const { revision } = result;
  const found = result.succeeded ? result.responses[1] : result.responses[0];
  if (found === null) return { at: revision, modRevision: revision };
  const position = readPosition(found);
  if (position.at <= revision) return position;
  const gap: TopicGap = { type: 'gap', from: 1n, to: revision, reason: 'restored' };
  return { ...position, at: revision, gap };
}
