/**
 * A durable subscription: a name whose position is in the store. One consumer of the name is active;
 * others stand by, and the next one goes on from the position when the active one leaves or its
 * session ends. What was delivered and not acknowledged is delivered again then.
 */
import type { Codec } from '../../sdk/codec.ts';
import type { CallOptions } from '../../sdk/options.ts';
import { linkedSignal } from '../common/signals.ts';
import type { Holding } from '../line/holding.ts';
import { Acknowledgements } from './acknowledgements.ts';
import { shownEvent } from './free.ts';
import { behind, type Cursor, readMessages } from './message-reader.ts';
import { openPosition } from './position.ts';
import { holdRole, roleLost } from './role.ts';
import { cursorOf, type Start } from './start.ts';
import type { TopicCore } from './topic-core.ts';
import type { DurableEvent } from './topic-events.ts';
import { subscriptionLevel } from './topic-keys.ts';

export type DurableParts<T> = {
  readonly core: TopicCore;
  readonly codec: Codec<T>;
  /** The name of the subscription. */
  readonly name: string;
  /** Where the subscription begins, if it does not exist yet. */
  readonly start: Start;
  readonly buffer: number;
  readonly recheckMs: number;
};

export async function* consumeDurably<T>(
  parts: DurableParts<T>,
  signal: AbortSignal,
): AsyncGenerator<DurableEvent<T>> {
  const { core, name } = parts;
  const level = subscriptionLevel('durable', name);
  for await (const holding of holdRole(core, `${level}/`, signal)) {
    const stop = linkedSignal(signal, holding.signal);
    const told = lostSignal(name, holding);
    try {
      let begin: Cursor | undefined;
      do {
        begin = yield* consumeActively(parts, begin, holding, told.signal, stop.signal);
      } while (begin !== undefined);
    } catch (error) {
      if (!stop.signal.aborted) throw error;
    } finally {
      stop.unlink();
      told.unlink();
    }
  }
}

/**
 * From the position on, until the role ends, the store was restored to an older state, or the
 * subscription was forgotten.
 *
 * @param begin where the subscription begins, if it does not exist; by default as its options say
 * @returns where it is to begin anew, when it was forgotten
 */
async function* consumeActively<T>(
  { core, codec, name, start, buffer, recheckMs }: DurableParts<T>,
  begin: Cursor | undefined,
  holding: Holding,
  lost: AbortSignal,
  signal: AbortSignal,
): AsyncGenerator<DurableEvent<T>, Cursor | undefined> {
  const { client, keys } = core;
  const key = keys.position + subscriptionLevel('durable', name);
  const cursor = begin ?? (await cursorOf(client, keys, start, signal));
  const position = await openPosition(client, key, cursor, signal);
  const { gap } = position;
  // Then even the acknowledgement of now moves it.
  const at = gap === undefined ? position.at : position.at - 1n;
  const acks = new Acknowledgements(name, holding, key, { ...position, at });
  const reading = linkedSignal(signal, acks.forgotten);
  const over = linkedSignal(lost, acks.forgotten);
  const options = { signal: reading.signal, buffer, recheckMs };
  try {
    for await (const found of behind(gap, readMessages(client, keys, position.at, options))) {
      if (acks.forgotten.aborted) break;
      // The position went back with the store: it is read again.
      if (found !== gap && found.type === 'gap' && found.reason === 'restored') return undefined;
      const upTo = found.type === 'gap' ? found.to : found.revision;
      yield {
        ...shownEvent(keys, found, codec),
        signal: over.signal,
        ack: (call: Pick<CallOptions, 'signal'> = {}) => acks.ack(upTo, call.signal),
      };
    }
    if (!acks.forgotten.aborted) return undefined;
    // Who began at what is new would miss what came since, if that were now.
    return start === 'new' ? acks.at : await cursorOf(client, keys, start, signal);
  } finally {
    reading.unlink();
    over.unlink();
  }
}

/** Aborts with what subscribers are to know when the holding ends. */
function lostSignal(name: string, holding: Holding) {
  const controller = new AbortController();
  const tell = () => controller.abort(roleLost(name, holding.signal.reason));
  holding.signal.addEventListener('abort', tell, { once: true });
  const unlink = () => holding.signal.removeEventListener('abort', tell);
  return { signal: controller.signal, unlink };
}
