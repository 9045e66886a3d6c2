/** Looking into a topic: what it holds, who reads it, and how far they are. */
import type { KeyValue, ListResult } from '../../sdk/kv.ts';
import type { CallOptions } from '../../sdk/options.ts';
import { op } from '../../sdk/txn.ts';
import { untilAnswered } from '../common/repeat.ts';
import { inLineOrder, type LineEntry, lineEntry } from '../line/line-record.ts';
import { unescapeName } from '../names.ts';
import { Queue, type QueueStats } from '../queue/queue.ts';
import { readPosition } from './position.ts';
import { type Retention, readRetention, shownRetention } from './retention.ts';
import type { TopicCore } from './topic-core.ts';
import { readIndex } from './topic-index.ts';

export type SubscriptionInfo = {
  readonly name: string;
  /** Everything up to this revision is acknowledged; of a group: handed over to its members' queue. */
  readonly position: bigint;
  /** Messages after the position. */
  readonly lag: number;
  /** The active consumer, or who feeds the group, then those who stand by. */
  readonly consumers: readonly LineEntry[];
} & (
  | { readonly kind: 'durable' }
  | {
      readonly kind: 'group';
      /** Handed over and not settled. */
      readonly pending: number;
      /** Of those: delivered to a member that has not settled it yet. */
      readonly inFlight: number;
      /** Put aside after too many deliveries, or by a member. */
      readonly parked: number;
      readonly members: number;
    }
);

export type TopicInfo = {
  readonly messages: number;
  readonly bytes: number;
  /** Of the oldest and newest message; undefined when there is none. */
  readonly firstRevision: bigint | undefined;
  readonly lastRevision: bigint | undefined;
  /** Everything up to this revision has been removed by retention; 0n when nothing was. */
  readonly floor: bigint;
  readonly retention: Retention;
  readonly subscriptions: readonly SubscriptionInfo[];
};

/** One exchange, one for each 1,000 messages, and one for each group. */
export async function inspectTopic(
  core: TopicCore,
  options: Pick<CallOptions, 'signal'>,
): Promise<TopicInfo> {
  const { client, keys } = core;
  const { signal } = options;
  const read = client.kv
    .txn()
    .then(
      op.get(keys.settings),
      op.list({ prefix: keys.position }),
      op.list({ prefix: keys.active }),
    );
  const { responses } = await untilAnswered(client, () => read.commit(options), signal);
  const [settings, positions, active] = responses as readonly [
    KeyValue | null,
    ListResult,
    ListResult,
  ];
  const { entries, floor } = await readIndex(client, keys, signal);
  const present = entries.filter(({ revision }) => revision > floor);
  const subscriptions: SubscriptionInfo[] = [];
  for (const kv of positions.kvs) {
    const level = kv.key.slice(keys.position.length);
    const [kind, escaped = ''] = level.split('/');
    const position = readPosition(kv).at;
    const line = active.kvs.filter(({ key }) => key.startsWith(`${keys.active}${level}/`));
    const name = unescapeName(escaped);
    const shown = {
      name,
      position,
      lag: present.filter(({ revision }) => revision > position).length,
      consumers: inLineOrder(line).map(lineEntry),
    };
    if (kind === 'durable') subscriptions.push({ kind, ...shown });
    if (kind === 'group') {
      const stats = await new Queue<unknown>(core.scoped, name).stats(options);
      subscriptions.push({ kind, ...shown, ...countsOf(stats) });
    }
  }
  return {
    messages: present.length,
    bytes: present.reduce((sum, { bytes }) => sum + bytes, 0),
    firstRevision: present[0]?.revision,
    lastRevision: present.at(-1)?.revision,
    floor,
    retention: shownRetention(readRetention(settings)),
    subscriptions,
  };
}

const countsOf = ({ ready, delayed, lined, blocked, active, dead, workers }: QueueStats) => ({
  pending: ready + delayed + lined + blocked + active,
  inFlight: active,
  parked: dead,
  members: workers,
});
