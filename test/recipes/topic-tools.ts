/** Publishing and reading numbers, for the tests of topics. */
import type { RecipeContext } from '../../recipes/common/context.ts';
import { Topic, type TopicOptions } from '../../recipes/topic/topic.ts';
import type {
  DurableEvent,
  GroupEvent,
  TopicEvent,
  TopicGap,
} from '../../recipes/topic/topic-events.ts';
import type { Client } from '../../sdk/client.ts';
import { faultyClient } from '../support/faulty-kv.ts';
import type { Actor } from './world.ts';

/** The actor's context, whose faults reach namespaces as well. */
export function faultyEverywhere({ client, session, context, faults }: Actor): RecipeContext {
  const namespace = (prefix: string) => faultyClient(client.namespace(prefix), faults);
  const reaching: Client = Object.create(client, { namespace: { value: namespace } });
  return { ...context, session: Object.create(session, { client: { get: () => reaching } }) };
}

export const topicOf = (actor: Actor, name: string, options: TopicOptions<number> = {}) =>
  new Topic<number>(actor.context, name, options);

/** One publication of these numbers. */
export const publish = (topic: Topic<number>, ...numbers: number[]) =>
  topic.publishAll(numbers.map((data) => ({ data })));

/** The numbers of one revision, or a gap in words. */
export type Seen = number[] | string;

export const seenGap = ({ reason, from, to }: TopicGap): string => `${reason} ${from}-${to}`;

export function seen(event: TopicEvent<number>): Seen {
  return event.type === 'gap' ? seenGap(event) : event.messages.map(({ data }) => data);
}

/** The next events; the loop is left then. */
export async function take<E>(events: AsyncIterable<E>, count: number): Promise<E[]> {
  const taken: E[] = [];
  for await (const event of events) {
    taken.push(event);
    if (taken.length === count) break;
  }
  return taken;
}

/** What a subscription delivers, one call at a time. */
export class Reader<E extends TopicEvent<number> | DurableEvent<number> | GroupEvent<number>> {
  readonly #iterator: AsyncIterator<E>;

  constructor(events: AsyncIterable<E>) {
    this.#iterator = events[Symbol.asyncIterator]();
  }

  async next(): Promise<E> {
    const { done, value } = await this.#iterator.next();
    if (done) throw new Error('the subscription has ended');
    return value;
  }

  /** Resolves when it has ended. */
  async ended(): Promise<boolean> {
    return (await this.#iterator.next()).done === true;
  }

  async leave(): Promise<void> {
    await this.#iterator.return?.();
  }
}
