/** A subscription that keeps its own cursor. */
import type { Codec } from '../../sdk/codec.ts';
import { shownMessage } from './message.ts';
import { type Found, readMessages } from './message-reader.ts';
import { cursorOf, type Start } from './start.ts';
import type { TopicCore } from './topic-core.ts';
import type { TopicEvent } from './topic-events.ts';
import type { TopicKeys } from './topic-keys.ts';

export type FreeParts<T> = {
  readonly core: TopicCore;
  readonly codec: Codec<T>;
  readonly start: Start;
  readonly buffer: number;
  readonly recheckMs: number;
};

export async function* consumeFreely<T>(
  { core, codec, start, buffer, recheckMs }: FreeParts<T>,
  signal: AbortSignal,
): AsyncGenerator<TopicEvent<T>> {
  const { client, keys } = core;
  const cursor = await cursorOf(client, keys, start, signal);
  for await (const found of readMessages(client, keys, cursor, { signal, buffer, recheckMs })) {
    yield shownEvent(keys, found, codec);
  }
}

/** What was found, as subscribers see it. */
export function shownEvent<T>(keys: TopicKeys, found: Found, codec: Codec<T>): TopicEvent<T> {
  if (found.type === 'gap') return found;
  const { type, revision, messages } = found;
  return { type, revision, messages: messages.map((each) => shownMessage(keys, each, codec)) };
}
