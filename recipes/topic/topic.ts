/**
 * A topic: messages that any number of subscribers read, each at its own pace, in the order of the
 * store's revisions.
 *
 * Messages are keys of their own, so publishers do not get into each other's way and compaction takes
 * nothing from subscribers; a message stays until the topic's retention removes it. What was published
 * together has one revision and is delivered together.
 *
 * A position in a topic is a revision. Subscribers keep it themselves, or have the store keep it under
 * a name (`durable`), or share the work under a name (`group`).
 */
import { type Codec, json } from '../../sdk/codec.ts';
import { invalidArgument } from '../../sdk/errors.ts';
import type { CallOptions, Duration } from '../../sdk/options.ts';
import { type Operations, op, type PutOperation, type Txn } from '../../sdk/txn.ts';
import type { RecipeContext } from '../common/context.ts';
import { parsePeriod } from '../common/durations.ts';
import { checkCodec, checkOptions, onlySignal, timeLimits } from '../common/option-checks.ts';
import { untilAnswered } from '../common/repeat.ts';
import { abortable, observe } from '../common/streams.ts';
import { withinTime } from '../common/time-limit.ts';
import { eventView, type View } from '../common/view.ts';
import { queueKeys } from '../names.ts';
import { DeadLetters } from '../queue/dead-letters.ts';
import { type Dispatched, dispatchedCodec } from './dispatched.ts';
import { consumeDurably } from './durable.ts';
import { consumeFreely } from './free.ts';
import { consumeInGroup } from './group.ts';
import { inspectTopic, type TopicInfo } from './inspection.ts';
import type { NewMessage } from './message.ts';
import type { Published, PublishOptions } from './publisher.ts';
import type { Retention } from './retention.ts';
import {
  checkSubscribeOptions,
  type DurableOptions,
  type GroupOptions,
  parseDurable,
  parseGroup,
  parseSubscription,
  type SubscribeOptions,
} from './subscribe-options.ts';
import { TopicCore } from './topic-core.ts';
import type { DurableEvent, GroupEvent, TopicEvent } from './topic-events.ts';
import { type SubscriptionKind, subscriptionLevel } from './topic-keys.ts';
import type { Trimmed } from './trimmer.ts';

export type TopicOptions<T> = {
  /** How the data of messages is written. @default JSON */
  readonly codec?: Codec<T>;
  /**
   * How long messages are kept; stored once, for all clients. @default the stored rule; while none is
   * stored, messages are kept for ever
   */
  readonly retention?: Retention;
  /**
   * How often the client whose turn it is removes what is not kept: '10ms' or more. The shortest that a
   * session's objects of this topic ask for counts. @default '10s'
   */
  readonly trimEvery?: Duration;
};

export class Topic<T> {
  readonly name: string;
  readonly #core: TopicCore;
  readonly #codec: Codec<T>;
  readonly #trimEveryMs: number;

  /** @throws ConclaveError INVALID_ARGUMENT, MISMATCH */
  constructor(context: RecipeContext, name: string, options: TopicOptions<T> = {}) {
    checkOptions<TopicOptions<T>>(options, { codec: true, retention: true, trimEvery: true });
    if (options.codec !== undefined) checkCodec(options.codec);
    this.name = name;
    this.#codec = options.codec ?? json<T>();
    this.#trimEveryMs = parsePeriod(options.trimEvery ?? '10s', 'trimEvery');
    this.#core = TopicCore.of(context, name);
    if (options.retention !== undefined) this.#core.retention.want(options.retention);
  }

  /**
   * What went wrong in the background: MISMATCH; and, told once and tried again with the next trim,
   * PERMISSION_DENIED, NO_SPACE.
   */
  get errors$(): View<unknown> {
    return eventView(this.#core.errors.observable);
  }

  /**
   * Publishes a message. One exchange. Repeated until the store answers, and published once.
   *
   * @throws ConclaveError INVALID_ARGUMENT, CODEC, TOO_LARGE, MISMATCH, NO_SPACE, and ABORTED, TIMEOUT,
   *   SESSION_LOST with `outcome` 'unknown' when an answer was lost
   */
  publish(message: NewMessage<T>, options: PublishOptions = {}): Promise<Published> {
    return this.publishAll([message], options);
  }

  /**
   * Publishes 1 to 64 messages in one transaction: all or none, at one revision; subscribers get them
   * together, in this order. One exchange.
   *
   * @throws ConclaveError as `publish` does
   */
  async publishAll(
    messages: readonly NewMessage<T>[],
    options: PublishOptions = {},
  ): Promise<Published> {
    checkOptions<PublishOptions>(options, { ...timeLimits, id: true });
    this.#takePart();
    const { publisher, client } = this.#core;
    const what = `The publication to topic '${this.name}'`;
    return withinTime(client.clock, options, what, (signal) =>
      publisher.publish(messages, this.#codec, options.id, signal),
    );
  }

  /**
   * A transaction of the caller's own that also publishes, if and when it succeeds: a change of state
   * and its message are committed together or not at all. May be called again on what it returns, up to
   * 64 messages. The transaction must be of the session's own client, not of a namespace.
   *
   * It also compares that the message's key does not exist. So the value it returns takes effect once,
   * even when it is committed again because an answer was lost.
   *
   * @throws ConclaveError INVALID_ARGUMENT, CODEC, TOO_LARGE
   */
  publishIn<Then extends Operations, Else extends Operations>(
    txn: Txn<Then, Else>,
    message: NewMessage<T>,
  ): Txn<readonly [...Then, PutOperation], Else> {
    this.#takePart();
    return this.#core.publisher.publishIn(txn, message, this.#codec);
  }

  /**
   * Reads the topic, each message once, whole revisions in order; a gap tells what is missing. Reads
   * no more than `buffer` messages ahead. Ends when the loop is left, when `signal` aborts, or when the
   * session is closed; outlives lost sessions.
   *
   * - With `durable`, from where the subscription of this name is; see DurableEvent.
   * - With `group`, together with the other members of the group of this name; see GroupEvent.
   *
   * @throws ConclaveError INVALID_ARGUMENT; while iterating MISMATCH, or what the store refuses for good
   */
  subscribe(options: GroupOptions): AsyncIterable<GroupEvent<T>>;
  subscribe(options: DurableOptions): AsyncIterable<DurableEvent<T>>;
  subscribe(options?: SubscribeOptions): AsyncIterable<TopicEvent<T>>;
  subscribe(
    options: SubscribeOptions | DurableOptions | GroupOptions = {},
  ): AsyncIterable<TopicEvent<T> | GroupEvent<T>> {
    return abortable(this.#opener(options));
  }

  /**
   * `subscribe` as an Observable; each subscription reads anew. Events come as fast as subscribers take
   * them synchronously: what is to be slow belongs in a loop, or in a group with `maxInFlight`.
   */
  subscribe$(options: GroupOptions): View<GroupEvent<T>>;
  subscribe$(options: DurableOptions): View<DurableEvent<T>>;
  subscribe$(options?: SubscribeOptions): View<TopicEvent<T>>;
  subscribe$(
    options: SubscribeOptions | DurableOptions | GroupOptions = {},
  ): View<TopicEvent<T> | GroupEvent<T>> {
    return observe(this.#opener(options));
  }

  /** The cursor of now: what is published after this call comes after it. One exchange. */
  async cursor(options: CallOptions = {}): Promise<bigint> {
    checkOptions<CallOptions>(options, timeLimits);
    const { client, keys } = this.#core;
    return this.#limited('The cursor', options, async (call) => {
      const read = () => client.kv.list(keys.floor, { ...call, keysOnly: true });
      return (await untilAnswered(client, read, call.signal)).revision;
    });
  }

  /** What the topic holds, who reads it, and how far they are. Reads the key of each message. */
  async info(options: CallOptions = {}): Promise<TopicInfo> {
    checkOptions<CallOptions>(options, timeLimits);
    return this.#limited('The inspection', options, (call) => inspectTopic(this.#core, call));
  }

  /** Messages of a group that ran out of deliveries or were put aside, to look at and to replay. */
  parked(group: string): DeadLetters<Dispatched<T>> {
    const { client } = this.#core.scoped.session;
    return new DeadLetters(client, queueKeys(group), dispatchedCodec(this.#codec));
  }

  /**
   * Ends a durable subscription or a group: its position is gone, and what the group had not settled.
   * A consumer that still runs begins it anew, as its `from` says ('new': behind what was acknowledged
   * or handed over last), once it is to move the position: a durable one's next `ack` is CLAIM_LOST.
   * One exchange.
   */
  async forget(kind: SubscriptionKind, name: string, options: CallOptions = {}): Promise<void> {
    if (kind !== 'durable' && kind !== 'group') {
      throw invalidArgument('kind', kind, "'durable' or 'group'");
    }
    checkOptions<CallOptions>(options, timeLimits);
    const { client, keys } = this.#core;
    const level = subscriptionLevel(kind, name);
    const unsettled = `${keys.root}${queueKeys(name).root}`;
    const txn = client.kv
      .txn()
      .then(
        op.delete(keys.position + level),
        ...(kind === 'group' ? [op.delete({ prefix: unsettled })] : []),
      );
    await this.#limited('The end of the subscription', options, (call) =>
      untilAnswered(client, () => txn.commit(call), call.signal),
    );
  }

  /**
   * Changes how long messages are kept, for all clients, whatever they asked for. One exchange.
   *
   * @throws ConclaveError INVALID_ARGUMENT
   */
  async setRetention(retention: Retention, options: CallOptions = {}): Promise<void> {
    checkOptions<CallOptions>(options, timeLimits);
    return this.#limited('The change of the retention', options, (call) =>
      this.#core.retention.replace(retention, call),
    );
  }

  /** Removes now what is not kept. Clients do it by themselves, now and then. */
  async trim(options: Pick<CallOptions, 'signal'> = {}): Promise<Trimmed> {
    checkOptions<Pick<CallOptions, 'signal'>>(options, onlySignal);
    await this.#core.retention.agree(options.signal);
    return this.#core.trimmer.trim(options.signal);
  }

  /** The time bounds the whole call, which is repeated until the store answers. */
  #limited<R>(
    what: string,
    options: CallOptions,
    call: (options: Pick<CallOptions, 'signal'>) => Promise<R>,
  ): Promise<R> {
    const { clock } = this.#core.client;
    return withinTime(clock, options, `${what} of topic '${this.name}'`, (signal) =>
      call(signal === undefined ? {} : { signal }),
    );
  }

  #takePart(): void {
    this.#core.keepTrimmed(this.#trimEveryMs);
  }

  /** Checks the options now; what it returns opens a subscription each time. */
  #opener(
    options: SubscribeOptions | DurableOptions | GroupOptions,
  ): (signal: AbortSignal) => AsyncGenerator<TopicEvent<T> | GroupEvent<T>> {
    checkSubscribeOptions(options);
    const core = this.#core;
    const codec = this.#codec;
    const reading = { ...parseSubscription(options), core, codec };
    let consume: (signal: AbortSignal) => AsyncGenerator<TopicEvent<T> | GroupEvent<T>>;
    if ('group' in options) {
      const member = { ...reading, ...parseGroup(options) };
      consume = (signal) => consumeInGroup<T>(member, signal);
    } else if ('durable' in options) {
      const parts = { ...reading, name: parseDurable(options) };
      consume = (signal) => consumeDurably<T>(parts, signal);
    } else {
      consume = (signal) => consumeFreely<T>(reading, signal);
    }
    const takePart = () => this.#takePart();
    return (signal) =>
      core.untilClosed([signal, options.signal], async function* (stop) {
        takePart();
        await core.retention.agree(stop);
        yield* consume(stop);
      });
  }
}
