/**
 * Feeds a group: hands each message of the topic over to the group's queue, once, in order. One member
 * of the group does it at a time.
 *
 * The queue's transaction that takes messages in also moves the group's position, which it compares:
 * so nothing is handed over twice or left out, whoever fed the group before and whatever of that is
 * still on its way. A feeder whose position is not where it put it itself begins again from there. The queue sorts jobs by a revision that their producer had heard of; here that is
 * at least the position's, so what is handed over later stands behind what was handed over before,
 * also when another member goes on.
 */

import { ConclaveError, isConclaveError } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { fullJitterMs, mayRepeat, pause, untilAnswered } from '../common/repeat.ts';
import { linkedSignal } from '../common/signals.ts';
import { type NewJob, Producer } from '../queue/producer.ts';
import { dispatchedGap, dispatchedMessage } from './dispatched.ts';
import { messagesMax, publicationBytesMax } from './message.ts';
import { behind, type Found, readMessages } from './message-reader.ts';
import { openPosition, type Position, readPosition, writePosition } from './position.ts';
import { ReadAhead } from './read-ahead.ts';
import { holdRole, steadyMs } from './role.ts';
import { cursorOf, type Start } from './start.ts';
import type { TopicCore } from './topic-core.ts';
import { subscriptionLevel } from './topic-keys.ts';

export type GroupFeed = {
  readonly core: TopicCore;
  /** The name of the group. */
  readonly name: string;
  /** Where the group begins, if it does not exist yet. */
  readonly start: Start;
  readonly buffer: number;
  readonly recheckMs: number;
  /** Messages handed over and not settled, at most. */
  readonly maxPending: number;
};

/** Everything up to here was handed over when this feeder last knew; undefined before it knows. */
type Progress = { at: bigint | undefined };

/** Takes its turn at feeding until the signal aborts. @throws ConclaveError what cannot be repeated */
export async function feedGroup(feed: GroupFeed, signal: AbortSignal): Promise<void> {
  const level = `${subscriptionLevel('group', feed.name)}/`;
  for await (const holding of holdRole(feed.core, level, signal)) {
    const stop = linkedSignal(signal, holding.signal);
    try {
      await feedWhile(feed, stop.signal);
    } finally {
      stop.unlink();
    }
  }
}

async function feedWhile(feed: GroupFeed, signal: AbortSignal): Promise<void> {
  const { clock, random } = feed.core.client;
  const progress: Progress = { at: undefined };
  for (let failures = 0; !signal.aborted; failures++) {
    const sinceMs = clock.monotonicMs();
    try {
      await feedFromPosition(feed, progress, signal);
    } catch (error) {
      if (signal.aborted) return;
      // The queue's producer goes on in another session.
      if (!isConclaveError(error, 'SESSION_LOST') && !mayRepeat(error)) throw error;
    }
    if (clock.monotonicMs() - sinceMs >= steadyMs) failures = 0;
    await pause(clock, fullJitterMs(failures, random), signal).catch(() => undefined);
  }
}

/** Until somebody else has moved the position, or it went back with a restored store. */
async function feedFromPosition(
  feed: GroupFeed,
  progress: Progress,
  signal: AbortSignal,
): Promise<void> {
  const { core, name, start, buffer, recheckMs, maxPending } = feed;
  const { client, keys } = core;
  const level = subscriptionLevel('group', name);
  // A group that was forgotten under its members would miss what came since, if it began at now.
  const begin = start === 'new' ? progress.at : undefined;
  const cursor = begin ?? (await cursorOf(client, keys, start, signal));
  const opened = await openPosition(client, keys.position + level, cursor, signal);
  const { gap } = opened;
  let position: Position = opened;
  progress.at = position.at;
  const producer = Producer.of(core.scoped, name);
  const agreed = producer.limits({ capacity: maxPending });
  const reading = linkedSignal(signal);
  const source = readMessages(client, keys, position.at, {
    signal: reading.signal,
    buffer,
    recheckMs,
  });
  const ahead = new ReadAhead(behind(gap, source), messagesMax, reading.signal);
  try {
    for (;;) {
      const found = await ahead.take(together());
      const last = found.at(-1);
      if (last === undefined) return;
      if (found.some((each) => each !== gap && isRestored(each))) {
        progress.at = undefined;
        return;
      }
      producer.heard(position.modRevision);
      const upTo = last.type === 'gap' ? last.to : last.revision;
      const along = {
        key: `position/${level}`,
        revision: position.modRevision,
        value: writePosition(upTo),
      };
      const jobs = found.flatMap((each) => jobsOf(core, each));
      await producer.push(jobs, { signal, timeoutMs: undefined, whenFull: 'wait', agreed, along });
      progress.at = upTo;
      // The next one compares the position's new revision, which the push does not tell.
      position = await reread(core, keys.position + level, signal);
      // Somebody else has moved it since: what was read ahead here may be handed over already.
      if (position.at !== upTo) return;
    }
  } catch (error) {
    if (!isConclaveError(error, 'CONFLICT')) throw error;
  } finally {
    reading.abort();
    await ahead.ended();
  }
}

const isRestored = (found: Found) => found.type === 'gap' && found.reason === 'restored';

/** Whether one more goes into the same transaction as those it was asked about before. */
function together(): (found: Found) => boolean {
  let count = 0;
  let bytes = 0;
  return (found) => {
    const messages = found.type === 'gap' ? [] : found.messages;
    count += Math.max(1, messages.length);
    bytes += messages.reduce((sum, { value }) => sum + value.length, 0);
    return count <= messagesMax && bytes <= publicationBytesMax;
  };
}

function jobsOf({ keys, client }: TopicCore, found: Found): NewJob[] {
  const pushedMs = client.clock.wallMs();
  const state = { v: 1, attempts: 0, pushedMs } as const;
  if (found.type === 'gap') return [{ payload: dispatchedGap(found), state }];
  return found.messages.map((message) => {
    const { payload, group } = dispatchedMessage(keys, message);
    return { payload, state: group === undefined ? state : { ...state, group } };
  });
}

async function reread(core: TopicCore, key: string, signal: AbortSignal): Promise<Position> {
  const { client } = core;
  const kv: KeyValue | null = await untilAnswered(
    client,
    () => client.kv.get(key, { signal }),
    signal,
  );
  // Removed by hand: another look creates it anew.
  if (kv === null) throw new ConclaveError('CONFLICT', 'The position is gone');
  return readPosition(kv);
}
