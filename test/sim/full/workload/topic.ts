/**
 * A topic with retention, published to by everybody: readers with cursors of their own, consumers of
 * one durable subscription, and members of one group.
 */
import { queueKeys } from '../../../../recipes/names.ts';
import type { Topic } from '../../../../recipes/topic/topic.ts';
import type { TopicEvent } from '../../../../recipes/topic/topic-events.ts';
import { payloadsLeft } from '../../../lin/recipes-queue.ts';
import { hold } from '../../engine/violation.ts';
import type { CommitLog } from '../commit-log.ts';
import { ignoreRefusal, inSessions } from './sessions.ts';
import {
  checkGroup,
  checkPosition,
  checkReading,
  type Deed,
  historyOf,
  type Reading,
  type Told,
} from './topic-history.ts';
import { type ClientContext, finalEntries, type Workload } from './workload.ts';

const prefix = 'conclave/topic/news/';

export class TopicWorkload implements Workload {
  readonly #readings: Reading[] = [];
  readonly #toldDurably: Told[] = [];
  readonly #deeds: Deed[] = [];
  #published = 0;

  async run(client: ClientContext): Promise<void> {
    const role = client.choose.below(4);
    await inSessions(client, async (session) => {
      const topic = session.topic<number>('news', {
        retention: { messages: 12 },
        trimEvery: 1_000,
      });
      const part =
        role === 0
          ? this.#read(client, topic)
          : role === 1
            ? this.#consume(client, topic)
            : this.#workInGroup(client, topic);
      await Promise.all([this.#publish(client, topic), part]);
    });
  }

  check(log: CommitLog): void {
    const history = historyOf(log.commits, prefix);
    for (const reading of this.#readings) {
      const wrong = checkReading(history, reading);
      hold(wrong === undefined, 55, () => `${wrong}`);
    }
    const moved = checkPosition(history, `${prefix}position/durable/audit`, this.#toldDurably);
    hold(moved === undefined, 56, () => `${moved}`);
    const entries = [...finalEntries(log)].flatMap(([key, entry]) =>
      key.startsWith(prefix) ? [[key.slice(prefix.length), entry] as const] : [],
    );
    const payloads = payloadsLeft(queueKeys('workers'), entries);
    const pending = new Set(payloads.map((text) => JSON.parse(text.split('\n')[0] ?? '').id));
    const group = `${prefix}position/group/workers`;
    const handled = checkGroup(history, group, this.#deeds, pending);
    hold(handled === undefined, 57, () => `${handled}`);
  }

  async #publish(client: ClientContext, topic: Topic<number>) {
    const { choose, knobs, ending } = client;
    while (!client.isEnding()) {
      const messages = Array.from({ length: 1 + choose.below(3) }, () => {
        this.#published += 1;
        const key = choose.below(3);
        return { data: this.#published, ...(key === 0 ? {} : { key: `key ${key}` }) };
      });
      await topic.publishAll(messages, { signal: ending }).catch(ignoreRefusal);
      await client.pause(4 * knobs.meanPauseMs);
    }
  }

  /** From some time ago, then from its own cursor on, with a break now and then. */
  async #read(client: ClientContext, topic: Topic<number>): Promise<void> {
    const { name, ending, choose } = client;
    const now = await topic.cursor();
    const back = BigInt(choose.below(60));
    const reading: Reading = { reader: name, start: now > back ? now - back : 1n, told: [] };
    this.#readings.push(reading);
    for (let cursor = reading.start; !client.isEnding(); ) {
      const options = { from: cursor, recheck: 5_000, buffer: 4, signal: ending };
      let left = 1 + choose.below(10);
      for await (const event of topic.subscribe(options)) {
        reading.told.push(toldBy(event));
        cursor = event.type === 'gap' ? event.to : event.revision;
        await client.pause(client.knobs.meanPauseMs);
        left -= 1;
        if (left === 0) break;
      }
      await client.pause(10 * client.knobs.meanPauseMs);
    }
  }

  async #consume(client: ClientContext, topic: Topic<number>): Promise<void> {
    const { choose, ending } = client;
    while (!client.isEnding()) {
      let left = 1 + choose.below(10);
      const options = { durable: 'audit', recheck: 5_000, signal: ending } as const;
      for await (const event of topic.subscribe(options)) {
        this.#toldDurably.push(toldBy(event));
        await client.pause(client.knobs.meanPauseMs);
        if (choose.below(3) > 0) await event.ack({ signal: ending }).catch(ignoreRefusal);
        left -= 1;
        if (left === 0) break;
      }
      await client.pause(client.knobs.meanPauseMs);
    }
  }

  async #workInGroup(client: ClientContext, topic: Topic<number>): Promise<void> {
    const { choose, ending, knobs } = client;
    const options = {
      group: 'workers',
      recheck: 5_000,
      ackDeadline: 20_000,
      maxDeliveries: 1_000,
      maxInFlight: 1 + choose.below(3),
      signal: ending,
    };
    for await (const event of topic.subscribe(options)) {
      if (event.type === 'gap') {
        await event.ack().catch(ignoreRefusal);
        continue;
      }
      const { id } = event.message;
      this.#deeds.push({ kind: 'delivered', id });
      await client.pause(knobs.meanPauseMs);
      if (choose.below(8) === 0) {
        await event.nack().catch(ignoreRefusal);
        continue;
      }
      this.#deeds.push({ kind: 'ack', id });
      const acked = event.ack().then(() => this.#deeds.push({ kind: 'acked', id }), ignoreRefusal);
      if (choose.below(2) === 0) await acked;
    }
  }
}

function toldBy(event: TopicEvent<number>): Told {
  if (event.type === 'gap') {
    hold(event.reason === 'removed', 55, () => 'a gap of a store that was never restored');
    return { kind: 'gap', from: event.from, to: event.to };
  }
  const { revision, messages } = event;
  return { kind: 'messages', revision, ids: messages.map(({ id }) => id) };
}
